//! Build script of the addon: what N-API needs to link.
fn main() {
    napi_build::setup();
}
