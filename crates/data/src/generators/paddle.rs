//! The pieces that a Pathfinder picture is drawn with, antialiased: paddles in every direction, with the margin
//! that others must leave around them, and the round marker.

use super::lanczos::reduce;

/// One pixel of a stamp: place relative to the point that it is put on, and brightness.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dot {
    pub dy: i32,
    pub dx: i32,
    pub value: u8,
}

/// A straight piece of a snake that begins at the point that it is put on.
#[derive(Clone, Debug)]
pub(super) struct Paddle {
    /// What is seen.
    pub ink: Vec<Dot>,
    /// What is taken: the ink and `margin` around it.
    pub taken: Vec<Dot>,
}

/// Sizes in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct PaddleShape {
    pub length: i32,
    pub thickness: f64,
    pub margin: i32,
    /// Drawn so many times larger, then reduced.
    pub antialias: i32,
}

/// `from` + `distance` in the direction `angle` (radians, y downwards), rounded up.
pub(super) fn translate(from: [i32; 2], angle: f64, distance: i32) -> [i32; 2] {
    let along = |start: i32, unit: f64| (f64::from(start) + f64::from(distance) * unit).ceil() as i32;
    [along(from[0], angle.sin()), along(from[1], angle.cos())]
}

/// Offsets inside a circle.
pub(super) fn disc(radius: f64) -> Vec<[i32; 2]> {
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
        let end = translate([centre, centre], angle, shape.length * shape.antialias);
        let width = shape.thickness * f64::from(shape.antialias);
        let line = line(side, [centre, centre], end, width);
        let mut taken = vec![0u8; side * side];
        let grown = disc(f64::from(shape.margin * shape.antialias));
        for i in (0..side * side).filter(|i| line[*i] != 0) {
            for [dy, dx] in &grown {
                let (y, x) = ((i / side) as i32 + dy, (i % side) as i32 + dx);
                if (0..side as i32).contains(&y) && (0..side as i32).contains(&x) {
                    taken[y as usize * side + x as usize] = 255;
                }
            }
        }
        Paddle { ink: dots(&line, side, reach), taken: dots(&taken, side, reach) }
    }
}

/// The marker of an end: a filled circle.
pub(super) fn marker(radius: f64, antialias: i32) -> Vec<Dot> {
    let reach = radius.ceil() as i32 + 2;
    // The reduction is by exactly `antialias` here, as it is over a whole picture.
    let small = 2 * reach + 1;
    let side = (small * antialias) as usize;
    let mut picture = vec![0u8; side * side];
    for [dy, dx] in disc(radius * f64::from(antialias)) {
        let (y, x) = (reach * antialias + dy, reach * antialias + dx);
        picture[y as usize * side + x as usize] = 255;
    }
    dots(&picture, side, reach)
}

/// Reduces a picture to pixels −reach … reach and lists those that are not black.
fn dots(picture: &[u8], side: usize, reach: i32) -> Vec<Dot> {
    let small = (2 * reach + 1) as usize;
    let reduced = reduce(picture, side, small);
    let dot =
        |i: usize| Dot { dy: (i / small) as i32 - reach, dx: (i % small) as i32 - reach, value: reduced[i] };
    (0..small * small).map(dot).filter(|d| d.value > 0).collect()
}

/// Every pixel whose centre is within `width`/2 of the segment, with square ends; of width 1 the pixels
/// nearest to it, one a step along the longer axis.
fn line(side: usize, from: [i32; 2], to: [i32; 2], width: f64) -> Vec<u8> {
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
