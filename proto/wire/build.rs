//! Turns the files under `defs/` into Rust, with no compiler but this one: `protox` reads them, `prost` writes types
//! and `tonic` the services.

use std::path::{Path, PathBuf};
use std::{env, error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let defs = Path::new("defs");
    println!("cargo:rerun-if-changed=defs");
    println!("cargo:rerun-if-changed=build.rs");

    let files = proto_files(&defs.join("mezzo"))?;
    let mut set = protox::compile(&files, [defs])?;
    for file in &mut set.file {
        // What is deprecated on the wire is still served: the compiler must not complain of every use.
        for message in &mut file.message_type {
            undeprecate(message);
        }
    }

    let mut config = prost_build::Config::new();
    config
        .btree_map(["."])
        .bytes(["."])
        .include_file("mezzo_include.rs");
    tonic_prost_build::configure()
        // Connecting is the shells' business; a client is made from a channel: `LinkClient::new(channel)`.
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(set, config)?;
    Ok(())
}

fn undeprecate(message: &mut prost_types::DescriptorProto) {
    for field in &mut message.field {
        if let Some(options) = &mut field.options {
            options.deprecated = None;
        }
    }
    for value in message.enum_type.iter_mut().flat_map(|e| &mut e.value) {
        if let Some(options) = &mut value.options {
            options.deprecated = None;
        }
    }
    for nested in &mut message.nested_type {
        undeprecate(nested);
    }
}

/// Every `.proto` below `dir`, sorted, so that the output does not depend on the file system's order.
fn proto_files(dir: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|ext| ext == "proto") {
            found.push(path);
        }
    }
    found.sort();
    let _ = env::var("OUT_DIR")?;
    Ok(found)
}
