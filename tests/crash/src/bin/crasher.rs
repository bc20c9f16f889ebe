//! The program, with panics that unwind.

fn main() {
    quillet_crash::main();
}
