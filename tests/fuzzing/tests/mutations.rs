//! The short fuzzer: each target gets its seeds, what libFuzzer has kept, and a number of mutations that are
//! the same each time. `FUZZ_SEED` starts others, `FUZZ_COUNT` makes more, `FUZZ_TARGET` leaves out all
//! targets but one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{env, fmt::Write as _, fs, path::Path, thread};

use fuzzing::{
    Target,
    mutation::{Random, mutated},
    setting, targets,
};

/// Mutations of each target.
const COUNT: u64 = 20_000;

fn chosen() -> impl Iterator<Item = &'static Target> {
    let only = env::var("FUZZ_TARGET").ok();
    targets()
        .iter()
        .filter(move |target| only.as_deref().is_none_or(|only| only == target.name))
}

/// Says on a panic what was tried.
struct Trying<'a> {
    target: &'a Target,
    seed: u64,
    bytes: Vec<u8>,
}

impl Drop for Trying<'_> {
    #[expect(clippy::print_stderr, reason = "what to try again")]
    fn drop(&mut self) {
        if thread::panicking() {
            let hex = self.bytes.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            eprintln!(
                "{}, FUZZ_SEED={} FUZZ_COUNT=1: {hex}",
                self.target.name, self.seed
            );
        }
    }
}

/// Says whether the target took the bytes.
fn try_out(target: &Target, seed: u64, bytes: Vec<u8>) -> bool {
    let trying = Trying {
        target,
        seed,
        bytes,
    };
    (target.run)(&trying.bytes)
}

#[test]
fn seeds_are_taken() {
    for target in chosen() {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        for seed in seeds {
            assert!(try_out(target, 0, seed), "{}", target.name);
        }
    }
}

/// What libFuzzer found worth keeping, and what it stopped at, where it has run.
#[test]
fn what_was_kept_is_tried_again() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    for target in chosen() {
        for kept in ["corpus", "artifacts"] {
            let folder = fuzz.join(kept).join(target.name);
            for file in fs::read_dir(folder).into_iter().flatten() {
                try_out(target, 0, fs::read(file.unwrap().path()).unwrap());
            }
        }
    }
}

#[test]
fn mutations_do_no_harm() {
    let first = setting("FUZZ_SEED", 1);
    let count = setting("FUZZ_COUNT", COUNT);
    thread::scope(|scope| {
        for target in chosen() {
            scope.spawn(move || {
                let seeds = (target.seeds)();
                for seed in first..first + count {
                    let bytes = mutated(&seeds, &mut Random::new(seed));
                    try_out(target, seed, bytes);
                }
            });
        }
    });
}
