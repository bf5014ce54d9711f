//! The program `tuyau`.
fn main() {}
