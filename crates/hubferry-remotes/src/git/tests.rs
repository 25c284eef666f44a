//! The relay and the program by themselves; whole fetches are tested against a hub from outside.
