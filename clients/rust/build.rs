//! Stubs, from the protos of the repository. Needs `protoc`.

const PROTOS: &str = "../../protos";

fn main() -> std::io::Result<()> {
    let files = ["embedding", "zero_shot", "model"].map(|name| format!("{PROTOS}/siglip/v1/{name}.proto"));
    tonic_prost_build::configure().build_server(false).compile_protos(&files, &[PROTOS.to_string()])
}
