//! Harnesses of the tests: the World (deterministic simulator), the Lab (network namespaces) and the packet tables.

pub mod bench;
pub mod lab;
pub mod packets;
pub mod world;
