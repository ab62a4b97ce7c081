//! The wire format held to its document, to its properties, and against a fuzzer.

mod document;
mod fuzz;
mod golden;
mod oracle;
mod properties;
