//! Writes what the targets start from: `fuzz-seeds FOLDER` makes a folder in it for each target.

#![expect(clippy::unwrap_used, reason = "a tool for tests")]

use std::{env, fs, path::Path};

fn main() {
    let corpus = env::args_os().nth(1).unwrap();
    for target in fuzzing::targets() {
        let folder = Path::new(&corpus).join(target.name);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}
