//! The trust boundary as cargo sees it: who may depend on what.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;
use system_tests::programs::workspace;

/// The direct dependencies of each crate of the workspace, those for its tests included.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(workspace())
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            (name(package), dependencies.iter().map(name).collect())
        })
        .collect()
}

/// The crates of the workspace that name `dependency`.
fn dependents(dependency: &str) -> Vec<String> {
    let all = dependencies();
    let found = all
        .into_iter()
        .filter(|(_, names)| names.iter().any(|name| name == dependency));
    found.map(|(package, _)| package).collect()
}

#[test]
fn one_crate_touches_pkcs11() {
    // `faulty-module` is no user of a module: it is one, for tests, which nothing may link. `bench`
    // measures what a module does when nothing stands before it. `mechanisms` gives types and calls nothing.
    assert_eq!(
        dependents("cryptoki"),
        ["bench", "faulty-module", "hsm", "mechanisms"]
    );
    assert_eq!(dependents("mechanisms"), ["hsm"]);
    assert_eq!(dependents("cryptoki-sys"), ["faulty-module"]);
    assert!(dependents("faulty-module").is_empty());
    assert!(dependents("bench").is_empty());
}

#[test]
fn the_terminal_knows_nothing_of_the_host() {
    assert!(dependents("kdh-host").is_empty());
    assert!(dependents("krd-client").is_empty());
}

#[test]
fn dependencies_point_one_way() {
    let all = dependencies();
    let order = ["tr34", "tr31", "pki", "mechanisms", "hsm", "token-tls"];
    for (position, lower) in order.iter().enumerate() {
        for higher in &order[position..] {
            assert!(
                !all[*lower].iter().any(|name| name == higher),
                "{lower} depends on {higher}"
            );
        }
    }
    // Messages and certificates neither speak nor store.
    for library in ["tr34", "pki", "hsm"] {
        for outside in ["tonic", "tokio", "sqlx", "kdh-proto"] {
            assert!(
                !all[library].iter().any(|name| name == outside),
                "{library} depends on {outside}"
            );
        }
    }
}
