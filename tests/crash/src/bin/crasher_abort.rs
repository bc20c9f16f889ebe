//! The program once more, for a test that links it with `panic = "abort"`.

fn main() {
    quillet_crash::main();
}
