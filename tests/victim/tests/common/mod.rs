//! What the tests share: the victim that cargo built for them, and a round that must find nothing.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use quillet_support::Sink;
use std::path::Path;
use torture::{API_KEY, Findings, Folder, Oracle, PATIENCE, Plan, Said, Start};

/// The program.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_victim"))
}

/// Runs a round and returns what there was, in which nothing was wrong. A failure names the seed.
#[track_caller]
pub fn clean(plan: &Plan) -> Findings {
    let outcome = plan.run(program());
    let findings = outcome.findings;
    assert!(findings.is_clean(), "{plan}\n{findings}\n{}", findings.examples.join("\n"));
    findings
}

/// A sink, a directory and an oracle for a test that starts its victims itself.
pub struct Scene {
    pub sink: Sink,
    pub folder: Folder,
    pub oracle: Oracle,
    starts: u64,
}

impl Scene {
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    pub fn below(root: &Path) -> Self {
        let sink = Sink::builder().api_key(API_KEY).start().unwrap();
        Self { sink, folder: Folder::below(root), oracle: Oracle::default(), starts: 0 }
    }

    /// The next start, with numbers of its own.
    pub fn start(&mut self) -> Start {
        let mut start = Start::new(program(), self.sink.host(), self.folder.spool());
        start.seq_start = self.starts * 1_000_000;
        self.starts += 1;
        start
    }

    /// Takes in what a victim said, and hands it back.
    pub fn hear(&mut self, said: Said) -> Said {
        self.oracle.listen(&said);
        said
    }

    /// A last recovery, which must come to its end, and leave nothing behind.
    #[track_caller]
    pub fn recover(&mut self) {
        let mut start = self.start();
        start.is_recovery = true;
        let said = start.spawn().wait(PATIENCE).unwrap();
        let said = self.hear(said);
        assert!(said.is_shut_down && said.status.unwrap().success(), "{said:?}");
        assert_eq!(self.folder.files(), [] as [std::path::PathBuf; 0]);
    }

    /// The verdict, in which nothing must be wrong.
    #[track_caller]
    pub fn verdict(mut self) -> Findings {
        self.oracle.look(&self.sink);
        let findings = self.oracle.finish(|_| false);
        assert!(findings.is_clean(), "{findings}\n{}", findings.examples.join("\n"));
        findings
    }
}
