//! Turns the files under `defs/` into Rust, with no compiler but this one: `protox` reads them,
//! `prost` writes types, `tonic` the services, and `build/tables.rs` the tables that tell what a
//! field is called and which must be there.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message as _;

#[path = "build/tables.rs"]
mod tables;

fn main() -> Result<(), Box<dyn Error>> {
    let defs = Path::new("defs");
    println!("cargo:rerun-if-changed=defs");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut set = protox::compile(proto_files(&defs.join("mezzo"))?, [defs])?;
    fs::write(out.join("descriptors.bin"), set.encode_to_vec())?;
    fs::write(out.join("descriptors.rs"), tables::tables(&set)?)?;
    fs::write(out.join("every_message.rs"), tables::every_message(&set)?)?;

    for file in &mut set.file {
        for message in &mut file.message_type {
            undeprecate(message);
        }
    }
    let mut config = prost_build::Config::new();
    config
        .btree_map(["."])
        .bytes(["."])
        // Nearly a kilobyte that few resources have, in a message of which there are very many.
        .boxed(".mezzo.v1.Resource.disk")
        .include_file("mezzo_include.rs");
    tonic_prost_build::configure()
        // Connecting is the shells' business; a client is made from a channel:
        // `LinkClient::new(channel)`.
        .build_transport(false)
        // What arrives lacks no required field, on this door as on the others.
        .codec_path("crate::grpc::CheckedCodec")
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(set, config)?;
    Ok(())
}

/// Takes the mark of deprecation away: what is deprecated on the wire is still served, and the
/// compiler must not complain of each use. (The tables are made before, and keep it.)
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

/// Every `.proto` below `dir`, sorted, so that the output does not depend on the file system's
/// order.
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
    Ok(found)
}
