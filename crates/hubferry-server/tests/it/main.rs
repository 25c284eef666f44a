//! The hub from outside: real clients and hand-made requests against a hub in this process.

mod faults_hf;
mod protocol_hf;
mod serving;
mod support;
mod witness_hf;
