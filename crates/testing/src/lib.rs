//! Development only: what the tests of every crate share.
#![forbid(unsafe_code)]
