//! Tests of the remotes against real folders, scripted servers and our own hub: one binary, so that it links once.

mod dir;
