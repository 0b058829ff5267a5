//! Reads PNG and JPEG into bytes, one for each channel of a pixel.

use super::bytes::open_file;
use crate::{DataError, Result};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use rayon::prelude::*;
use std::io::{Cursor, Read};
use std::path::Path;

/// The channels that a read picture has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colours {
    /// As in the file: 1 to 4 channels.
    #[default]
    AsStored,
    /// One channel: luminance.
    Grey,
    /// Three channels.
    Rgb,
}

/// A picture, or several of the same size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pictures {
    /// (count, height, width, channels).
    pub pixels: Vec<u8>,
    /// Number of pictures.
    pub count: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Bytes of a pixel.
    pub channels: usize,
}

/// Largest width or height of a picture, in pixels.
const MAX_SIDE: u32 = 1 << 15;
/// Largest memory that decoding a picture may take, in bytes.
const MAX_MEMORY: u64 = 1 << 29;
/// The same of a JPEG picture, whose decoder does not keep to that limit: about 119 million pixels in colour.
const MAX_JPEG_MEMORY: u64 = 1 << 30;

/// Reads one PNG or JPEG file.
pub fn read_picture(path: impl AsRef<Path>, colours: Colours) -> Result<Pictures> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    let read = open_file(path)?.read_to_end(&mut bytes);
    read.map_err(|e| DataError::new(e).in_file(path))?;
    decode_picture(&bytes, colours).map_err(|e| e.in_file(path))
}

/// Reads files whose pictures all have the same size, on all threads of rayon's pool, in the order given.
pub fn read_pictures<P: AsRef<Path> + Sync>(paths: &[P], colours: Colours) -> Result<Pictures> {
    let Some(first) = paths.first() else {
        return Err(DataError::new("expected one or more pictures, got none"));
    };
    let mut pictures = read_picture(first, colours)?;
    let (height, width, channels) = (pictures.height, pictures.width, pictures.channels);
    let read_same_size = |path: &P| {
        let picture = read_picture(path, colours)?;
        if (picture.height, picture.width, picture.channels) != (height, width, channels) {
            let reason = format!(
                "expected {height} × {width} pixels of {channels} channels as in the first picture, got \
                 {} × {} of {}",
                picture.height, picture.width, picture.channels
            );
            return Err(DataError::new(reason).in_file(path.as_ref()));
        }
        Ok(picture.pixels)
    };
    let other_pictures: Vec<Vec<u8>> = paths[1..].par_iter().map(read_same_size).collect::<Result<_>>()?;
    let memory = pictures.pixels.try_reserve_exact(other_pictures.iter().map(Vec::len).sum());
    memory.map_err(|_| DataError::new(format!("no memory for {} pictures", paths.len())))?;
    other_pictures.iter().for_each(|pixels| pictures.pixels.extend_from_slice(pixels));
    Ok(Pictures { count: paths.len(), ..pictures })
}

/// Decodes a picture from the bytes of its file. Of 16-bit channels the upper 8 bits are kept.
pub fn decode_picture(bytes: &[u8], colours: Colours) -> Result<Pictures> {
    let format = image::guess_format(bytes).ok();
    let format = format.filter(|f| matches!(f, ImageFormat::Png | ImageFormat::Jpeg));
    let Some(format) = format else {
        return Err(DataError::at_byte(0, "expected a picture as PNG or JPEG, got other first bytes"));
    };
    if format == ImageFormat::Jpeg && !jpeg_has_end(bytes) {
        return Err(DataError::at_byte(bytes.len() as u64, "expected more of a JPEG picture, the file ends"));
    }
    let unreadable = |e: ImageError| DataError::new(format!("the picture cannot be read: {e}"));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(unreadable)?;
    check_size(bytes, format, decoder.dimensions(), decoder.total_bytes())?;
    let picture = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (channels, pixels) = match (colours, picture) {
        (Colours::Grey, picture) => (1, picture.into_luma8().into_raw()),
        (Colours::Rgb, picture) => (3, picture.into_rgb8().into_raw()),
        (Colours::AsStored, DynamicImage::ImageLuma8(p)) => (1, p.into_raw()),
        (Colours::AsStored, DynamicImage::ImageLumaA8(p)) => (2, p.into_raw()),
        (Colours::AsStored, DynamicImage::ImageRgba8(p)) => (4, p.into_raw()),
        (Colours::AsStored, p @ DynamicImage::ImageLuma16(_)) => (1, p.into_luma8().into_raw()),
        (Colours::AsStored, p @ DynamicImage::ImageLumaA16(_)) => (2, p.into_luma_alpha8().into_raw()),
        (Colours::AsStored, p @ DynamicImage::ImageRgba16(_)) => (4, p.into_rgba8().into_raw()),
        (Colours::AsStored, p) => (3, p.into_rgb8().into_raw()),
    };
    Ok(Pictures { pixels, count: 1, height, width, channels })
}

/// Refuses, before memory is taken for its pixels, a picture of more pixels than a file of so many bytes can hold, and one
/// whose `decoded_bytes` (palettes expanded) would take more memory than is allowed.
fn check_size(
    bytes: &[u8],
    format: ImageFormat,
    (width, height): (u32, u32),
    decoded_bytes: u64,
) -> Result<()> {
    let least_bytes = match format {
        // The code of a block has one bit or more.
        ImageFormat::Jpeg => jpeg_blocks(bytes, (width, height)) / 8,
        // Deflate folds at most 1,032 bytes into one.
        _ => u64::from(height) * (u64::from(width) * png_bits_per_pixel(bytes)).div_ceil(8) / 1032,
    };
    if least_bytes > bytes.len() as u64 {
        return Err(DataError::new(format!(
            "expected at least {least_bytes} bytes for {width} × {height} pixels, got a file of {}",
            bytes.len()
        )));
    }
    // A progressive JPEG is held as coefficients of two bytes beside the pixels.
    let (memory, most) = match format {
        ImageFormat::Jpeg => (decoded_bytes.saturating_mul(3), MAX_JPEG_MEMORY),
        _ => (decoded_bytes, MAX_MEMORY),
    };
    if memory > most {
        return Err(DataError::new(format!(
            "expected a picture that takes at most {} MiB to decode, got {width} × {height} pixels",
            most >> 20
        )));
    }
    Ok(())
}

/// Blocks of 8 × 8 samples of all components of a JPEG picture, or fewer: by its frame header where that is found, else as few as any
/// sampling factors give. (The decoder passes over bytes between segments, so it may find another header than is found here.)
fn jpeg_blocks(bytes: &[u8], (width, height): (u32, u32)) -> u64 {
    // One component has the most samples of a row, one the most of a column; a factor is at most 4.
    let fewest = u64::from(width) * u64::from(height) / (64 * 4);
    jpeg_frame_blocks(bytes, (width, height)).max(fewest)
}

/// Blocks by the frame header; 0 where that does not follow the segments before it.
fn jpeg_frame_blocks(bytes: &[u8], (width, height): (u32, u32)) -> u64 {
    // After the marker that begins the file segments follow: 0xFF, a marker, the length with its own two bytes.
    let mut at = 2;
    while let Some(&[0xFF, marker, high, low, ..]) = bytes.get(at..) {
        let is_frame = (0xC0..=0xCF).contains(&marker) && !matches!(marker, 0xC4 | 0xC8 | 0xCC);
        if !is_frame {
            // Before a marker there may be any number of 0xFF.
            at += if marker == 0xFF { 1 } else { 2 + usize::from(u16::from_be_bytes([high, low])) };
            continue;
        }
        // Precision, height, width, number of components; of each component its name, sampling factors, table.
        let count = usize::from(bytes.get(at + 9).copied().unwrap_or(0));
        let factors: Vec<(u64, u64)> = (0..count)
            .map_while(|i| bytes.get(at + 11 + 3 * i))
            .map(|hv| (u64::from(hv >> 4), u64::from(hv & 15)))
            .collect();
        let most = |f: fn(&(u64, u64)) -> u64| factors.iter().map(f).max().unwrap_or(1).max(1);
        let (most_h, most_v) = (most(|f| f.0), most(|f| f.1));
        let blocks = |(h, v): &(u64, u64)| {
            (u64::from(width) * h).div_ceil(8 * most_h) * (u64::from(height) * v).div_ceil(8 * most_v)
        };
        return factors.iter().map(blocks).sum();
    }
    0
}

/// Bits of a pixel by the header of a PNG file, which its decoder has accepted: sample size times samples.
fn png_bits_per_pixel(bytes: &[u8]) -> u64 {
    let samples = match bytes.get(25) {
        Some(2) => 3,
        Some(4) => 2,
        Some(6) => 4,
        _ => 1,
    };
    samples * u64::from(bytes.get(24).copied().unwrap_or(1))
}

/// Whether a JPEG file is complete, that is, has the marker "end of image" after its last marker "start of scan". The
/// decoder would fill missing pixels with grey. (In the data of a scan, 0xFF is followed by 0 or a restart marker, so
/// that a marker that is found is one; a thumbnail has markers of its own, but stands before all scans.)
fn jpeg_has_end(bytes: &[u8]) -> bool {
    let last_marker = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xFF, marker]);
    last_marker(0xD9) > last_marker(0xDA)
}
