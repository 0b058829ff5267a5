//! Picture files, read away from the JavaScript thread and on all cores.

use crate::{
    background::{Background, in_background},
    buffer::Bytes,
};
use napi::bindgen_prelude::AsyncTask;
use napi_derive::napi;
use s4_backend::{Code, Error};
use s4_data::Colours;

/// Pictures of one size.
#[napi(object, object_from_js = false)]
pub struct Pictures {
    /// (count, height, width, channels).
    #[napi(ts_type = "Uint8Array")]
    pub pixels: Bytes,
    /// Number of pictures.
    pub count: u32,
    /// Rows of pixels.
    pub height: u32,
    /// Pixels of a row.
    pub width: u32,
    /// Bytes of a pixel.
    pub channels: u32,
}

/// Files in PNG or JPEG whose pictures have one size, in the order given.
#[napi(ts_return_type = "Promise<Pictures>")]
pub fn read_pictures(
    paths: Vec<String>,
    #[napi(ts_arg_type = "'asStored' | 'grey' | 'rgb'")] colours: String,
) -> AsyncTask<Background<Pictures>> {
    in_background(move || {
        let colours = match colours.as_str() {
            "asStored" => Colours::AsStored,
            "grey" => Colours::Grey,
            "rgb" => Colours::Rgb,
            other => return Err(Error::value("readPictures", "colours 'asStored', 'grey' or 'rgb'", other)),
        };
        let read = s4_data::read_pictures(&paths, colours)
            .map_err(|e| Error::new(Code::Data, "readPictures", "pictures of one size", e))?;
        Ok(Pictures {
            pixels: Bytes(read.pixels),
            count: read.count as u32,
            height: read.height as u32,
            width: read.width as u32,
            channels: read.channels as u32,
        })
    })
}
