//! Compiles the interface with protox, so that nobody has to install protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "kdh/v1/key_distribution.proto",
        "kdh/v1/administration.proto",
        "kdh/v1/approvals.proto",
        "kdh/v1/base_derivation_keys.proto",
        "kdh/v1/key_export.proto",
        "kdh/v1/key_profiles.proto",
        "kdh/v1/key_storage.proto",
        "kdh/v1/refused_keys.proto",
        "kdh/v1/rollouts.proto",
    ];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
