//! The tutorial quotes the library that its programs use: it must be that library.

const TUTORIAL: &str = include_str!("../../../docs/tutorial.md");

#[test]
fn the_tutorial_shows_the_protocol_as_it_is() {
    let library = include_str!("../../../examples/pingpong/src/lib.rs");
    let (_, code) = library.split_once("pub use jump::{Jump, jump};\n\n").expect("the end of its head");
    assert!(
        TUTORIAL.contains(&format!("```rust\n{code}```")),
        "copy examples/pingpong/src/lib.rs to section 1"
    );
}

#[test]
fn the_tutorial_shows_the_hop_as_it_is() {
    let hop = include_str!("../../../examples/pingpong/src/jump.rs");
    let (_, code) = hop.split_once("/// What one goes through.").expect("its beginning");
    let (code, _) = code.split_once("\n/// The jump host").expect("the server");
    assert!(TUTORIAL.contains(code), "copy examples/pingpong/src/jump.rs to section 4");
}
