//! Reading of PNG and JPEG pictures that the Python library Pillow wrote, and of folders of classes.

use s4_data::*;

fn test_file(name: &str) -> String {
    format!("{}/tests/files/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The pixel that every test file has: red grows downwards, green to the right, blue in both directions.
fn true_pixel(pixel: usize, channel: usize) -> i32 {
    let (y, x) = (pixel as i32 / 32, pixel as i32 % 32);
    [8 * y, 8 * x, 4 * (x + y)][channel]
}

#[test]
fn pictures_that_pillow_wrote() {
    for (name, channels, tolerance) in
        [("rgb.png", 3, 0), ("grey.png", 1, 0), ("rgb.jpg", 3, 12), ("grey.jpg", 1, 4)]
    {
        let pictures = read_picture(test_file(name), Colours::AsStored).unwrap();
        let shape = (pictures.count, pictures.height, pictures.width, pictures.channels);
        assert_eq!(shape, (1, 32, 32, channels), "{name}");
        let pixel_error =
            |(i, p): (usize, &u8)| (i32::from(*p) - true_pixel(i / channels, i % channels)).abs();
        let worst = pictures.pixels.iter().enumerate().map(pixel_error).max().unwrap();
        assert!(worst <= tolerance, "{name}: {worst}");
    }
    let grey = read_picture(test_file("rgb.png"), Colours::Grey).unwrap();
    assert_eq!((grey.channels, grey.pixels.len()), (1, 1024));
    let rgb = read_picture(test_file("grey.png"), Colours::Rgb).unwrap();
    assert_eq!((rgb.channels, &rgb.pixels[3 * 64..3 * 64 + 3]), (3, &[16, 16, 16][..]));
}

#[test]
fn many_pictures_have_one_size() {
    let names = ["rgb.png", "rgb.jpg", "rgb.png"].map(test_file);
    let pictures = read_pictures(&names, Colours::Rgb).unwrap();
    assert_eq!((pictures.count, pictures.pixels.len()), (3, 3 * 3072));
    assert_eq!(pictures.pixels[..3072], pictures.pixels[2 * 3072..]);
    let failed = read_pictures(&["rgb.png", "grey.png"].map(test_file), Colours::AsStored).unwrap_err();
    assert!(failed.path.unwrap().ends_with("grey.png") && failed.reason.contains("as in the first"));
    let failed = read_pictures(&["rgb.png", "f4.npy"].map(test_file), Colours::Rgb).unwrap_err();
    assert!(failed.path.unwrap().ends_with("f4.npy") && failed.offset == Some(0));
    assert!(read_pictures::<String>(&[], Colours::Rgb).is_err());
}

/// CRC-32 of a chunk's type and data, bit by bit.
fn png_check_sum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        let mixed = sum ^ u32::from(*byte);
        (0..8).fold(mixed, |sum, _| (sum >> 1) ^ (0xEDB8_8320 * (sum & 1)))
    })
}

#[test]
fn a_header_that_promises_too_much_is_refused() {
    let mut png = std::fs::read(test_file("grey.png")).unwrap();
    png[16..24].copy_from_slice(&[0, 0, 0x7F, 0xFF, 0, 0, 0x7F, 0xFF]);
    assert!(decode_picture(&png, Colours::Rgb).is_err());
    png[16..24].copy_from_slice(&[0x7F, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF]);
    assert!(decode_picture(&png, Colours::Rgb).is_err());
    // Grey, 4,096 × 4,096: no deflated file of so few bytes holds that, and no memory is taken for it.
    png[16..24].copy_from_slice(&[0, 0, 0x10, 0, 0, 0, 0x10, 0]);
    let sum = png_check_sum(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    let reason = decode_picture(&png, Colours::Rgb).unwrap_err().reason;
    assert!(reason.starts_with("expected at least 16256 bytes for 4096 × 4096 pixels"), "{reason}");
    // One bit a pixel, 32,768 × 32,768: its file may be small, and its pixels are a gigabyte.
    png[16..26].copy_from_slice(&[0, 0, 0x80, 0, 0, 0, 0x80, 0, 1, 0]);
    let sum = png_check_sum(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    png.resize(200_000, 0);
    let reason = decode_picture(&png, Colours::Rgb).unwrap_err().reason;
    assert!(reason.starts_with("expected a picture that takes at most 512 MiB"), "{reason}");
    let mut jpeg = std::fs::read(test_file("grey.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x40, 0, 0x40, 0]);
    let reason = decode_picture(&jpeg, Colours::Rgb).unwrap_err().reason;
    assert!(reason.starts_with("expected at least 524288 bytes for 16384 × 16384 pixels"), "{reason}");
}

#[test]
fn folders_are_classes() {
    let folder = tempfile::tempdir().unwrap();
    for name in
        ["dog/b.png", "dog/a.PNG", "cat/c.png", "cat/notes.txt", "cat/.hidden.png", ".git/x.png", "top.png"]
    {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    let pictures = class_folder(folder.path(), &[".png"]).unwrap();
    assert_eq!(
        (&pictures.classes[..], &pictures.labels[..]),
        (&["cat".to_owned(), "dog".to_owned()][..], &[0, 1, 1][..])
    );
    let names: Vec<_> = pictures.files.iter().map(|f| f.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["c.png", "a.PNG", "b.png"]);
    assert_eq!(class_folder(folder.path(), &[]).unwrap().files.len(), 4);
    assert!(class_folder(folder.path(), &[".wav"]).unwrap_err().reason.contains(".wav"));
    assert!(class_folder(folder.path().join("none"), &[]).unwrap_err().path.is_some());
}
