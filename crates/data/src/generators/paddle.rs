//! The stamps that a Pathfinder picture is drawn with, antialiased: paddles (short straight lines, the pieces of a
//! snake) in every direction, with the margin that other paddles must leave around them, and the round marker of a
//! snake's end.

use super::lanczos::reduce_picture;

/// One pixel of a stamp: its offset from the point at which the stamp is drawn, and its brightness.
#[derive(Clone, Copy, Debug)]
pub(super) struct StampPixel {
    pub dy: i32,
    pub dx: i32,
    pub value: u8,
}

/// A straight piece of a snake, as a stamp that is drawn from the piece's beginning.
#[derive(Clone, Debug)]
pub(super) struct Paddle {
    /// The pixels that are drawn.
    pub ink: Vec<StampPixel>,
    /// The pixels that no other paddle may use: those drawn and `margin` pixels around them.
    pub taken_pixels: Vec<StampPixel>,
}

/// Sizes in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct PaddleShape {
    pub length: i32,
    pub thickness: f64,
    pub margin: i32,
    /// Factor by which a stamp is drawn larger before it is reduced to its size.
    pub antialias: i32,
}

/// The point at `distance` from `from` in the direction `angle` (radians, y downwards); points are [y, x], rounded up.
pub(super) fn point_at_distance(from: [i32; 2], angle: f64, distance: i32) -> [i32; 2] {
    let along = |start: i32, unit: f64| (f64::from(start) + f64::from(distance) * unit).ceil() as i32;
    [along(from[0], angle.sin()), along(from[1], angle.cos())]
}

/// The pixels [dy, dx] within `radius` of the origin.
pub(super) fn offsets_in_circle(radius: f64) -> Vec<[i32; 2]> {
    let r = radius.floor() as i32;
    let inside = |p: &[i32; 2]| f64::from(p[0] * p[0] + p[1] * p[1]) <= radius * radius;
    (-r..=r).flat_map(|y| (-r..=r).map(move |x| [y, x])).filter(inside).collect()
}

impl Paddle {
    /// A paddle in the direction `angle`.
    pub(super) fn new(shape: PaddleShape, angle: f64) -> Self {
        let reach = shape.length + shape.thickness.ceil() as i32 + shape.margin;
        let side = (2 * reach * shape.antialias + 1) as usize;
        let centre = reach * shape.antialias;
        let end = point_at_distance([centre, centre], angle, shape.length * shape.antialias);
        let width = shape.thickness * f64::from(shape.antialias);
        let line = line_pixels(side, [centre, centre], end, width);
        let mut taken_pixels = vec![0u8; side * side];
        let margin_offsets = offsets_in_circle(f64::from(shape.margin * shape.antialias));
        for i in (0..side * side).filter(|i| line[*i] != 0) {
            for [dy, dx] in &margin_offsets {
                let (y, x) = ((i / side) as i32 + dy, (i % side) as i32 + dx);
                if (0..side as i32).contains(&y) && (0..side as i32).contains(&x) {
                    taken_pixels[y as usize * side + x as usize] = 255;
                }
            }
        }
        Paddle {
            ink: stamp_pixels(&line, side, reach),
            taken_pixels: stamp_pixels(&taken_pixels, side, reach),
        }
    }
}

/// The marker of a snake's end, a filled circle.
pub(super) fn marker_stamp(radius: f64, antialias: i32) -> Vec<StampPixel> {
    let reach = radius.ceil() as i32 + 2;
    // The sides have the ratio `antialias` exactly, as when a whole picture is reduced.
    let reduced_side = 2 * reach + 1;
    let side = (reduced_side * antialias) as usize;
    let mut picture = vec![0u8; side * side];
    for [dy, dx] in offsets_in_circle(radius * f64::from(antialias)) {
        let (y, x) = (reach * antialias + dy, reach * antialias + dx);
        picture[y as usize * side + x as usize] = 255;
    }
    stamp_pixels(&picture, side, reach)
}

/// Reduces a square picture to the pixels with offsets −reach … reach and lists those that are not black.
fn stamp_pixels(picture: &[u8], side: usize, reach: i32) -> Vec<StampPixel> {
    let reduced_side = (2 * reach + 1) as usize;
    let reduced = reduce_picture(picture, side, reduced_side);
    let dot = |i: usize| StampPixel {
        dy: (i / reduced_side) as i32 - reach,
        dx: (i % reduced_side) as i32 - reach,
        value: reduced[i],
    };
    (0..reduced_side * reduced_side).map(dot).filter(|d| d.value > 0).collect()
}

/// A square picture with a straight line between two points: white are the pixels whose centres are within `width`/2 of
/// it, with square ends. For a width of 1 or less it is one pixel for each step along the longer axis.
fn line_pixels(side: usize, from: [i32; 2], to: [i32; 2], width: f64) -> Vec<u8> {
    let mut picture = vec![0u8; side * side];
    let (dy, dx) = (f64::from(to[0] - from[0]), f64::from(to[1] - from[1]));
    let steps = dy.abs().max(dx.abs());
    if width <= 1.0 {
        for step in 0..=steps as i32 {
            let t = if steps > 0.0 { f64::from(step) / steps } else { 0.0 };
            let y = (f64::from(from[0]) + t * dy).round() as usize;
            let x = (f64::from(from[1]) + t * dx).round() as usize;
            picture[y * side + x] = 255;
        }
        return picture;
    }
    let length = dy.hypot(dx).max(1e-9);
    for (i, pixel) in picture.iter_mut().enumerate() {
        let (y, x) = ((i / side) as f64 - f64::from(from[0]), (i % side) as f64 - f64::from(from[1]));
        let along = (y * dy + x * dx) / length;
        let across = (y * dx - x * dy).abs() / length;
        if (-0.5..=length + 0.5).contains(&along) && across <= width / 2.0 {
            *pixel = 255;
        }
    }
    picture
}
