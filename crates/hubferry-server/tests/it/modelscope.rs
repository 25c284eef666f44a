//! What the ModelScope face refuses, and how, asked with raw HTTP.
