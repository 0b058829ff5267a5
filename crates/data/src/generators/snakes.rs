//! Snakes: chains of paddles whose direction changes smoothly and that leave a margin around each other
//! (the contours of Houtkamp and Roelfsema 2010, as Linsley et al. 2018 draw them).

use super::paddle::{Paddle, PaddleShape, offsets_in_circle, point_at_distance};
use crate::DataRng;
use std::f64::consts::PI;

/// How often a paddle is drawn anew where it would touch something.
const PADDLE_TRIALS: usize = 3;
/// A pixel counts as taken above this share of full coverage.
const TAKEN_COVERAGE: u8 = (0.3 * 255.0) as u8;
/// Two pieces touch where their coverages add up to this.
const TOUCHING_COVERAGE: u16 = (1.8 * 255.0) as u16;

/// A possible next paddle of a snake, by the step [dy, dx] from the snake's pivot to the paddle's far end.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    dy: i32,
    dx: i32,
    /// Index of the paddle's stamp, which is drawn backwards from the far end.
    paddle: usize,
    /// Index of the paddle's direction in `angles`.
    angle: usize,
}

/// The paddles of all directions and the steps between them, for one size of picture and one shape of paddle.
#[derive(Clone, Debug)]
pub(super) struct PaddleSet {
    size: i32,
    length: i32,
    margin: i32,
    pub paddles: Vec<Paddle>,
    angles: Vec<f64>,
    candidates: Vec<Candidate>,
    /// (angles, candidates): the probability, not normalised, that a candidate follows a paddle of this direction: cos²
    /// of the change of direction times the continuity, 0 from a right angle on.
    weights: Vec<f64>,
    /// Offsets of the pixels within the margin of a pixel.
    margin_offsets: Vec<[i32; 2]>,
    /// For each whole degree the pixels that a paddle in this direction takes entirely.
    full_pixels: Vec<Vec<[i32; 2]>>,
}

/// The paddle number `paddle`, drawn from the pixel `at` ([y, x]).
#[derive(Clone, Copy, Debug)]
pub(super) struct PlacedPaddle {
    pub paddle: usize,
    pub at: [i32; 2],
}

/// The growing end of a snake.
#[derive(Clone, Copy, Debug)]
pub(super) struct SnakeTip {
    /// The point from which the last paddle was placed, `margin` before its beginning.
    pivot: [i32; 2],
    /// Direction of the last paddle.
    angle: usize,
    /// The last paddle. It is not on the canvas yet, since the next one may come close to it.
    pub last_paddle: PlacedPaddle,
}

/// How much of each pixel is taken by paddles and their margins.
#[derive(Clone, Debug)]
pub(super) struct Canvas {
    coverage: Vec<u8>,
    /// Bit x of row y: whether that pixel counts as taken.
    taken_bits: Vec<u128>,
}

impl PaddleSet {
    pub(super) fn new(size: usize, shape: PaddleShape, continuity: f64) -> Self {
        let step = shape.length + shape.margin;
        let mut offsets: Vec<[i32; 2]> = Vec::new();
        // Points on the circle of radius `step`, about one per pixel.
        for k in 0..(2.0 * PI * f64::from(step)).ceil() as i32 {
            let angle = f64::from(k) / f64::from(step);
            let floor = |unit: f64| (f64::from(step) * unit).floor() as i32;
            offsets.push([floor(angle.sin()), floor(angle.cos())]);
        }
        offsets.sort_unstable();
        offsets.dedup();
        let mut angles: Vec<f64> = (-180..180).map(|d| f64::from(d) * PI / 180.0).collect();
        let mut paddles: Vec<Paddle> = angles.iter().map(|a| Paddle::new(shape, *a)).collect();
        let full_pixels = paddles
            .iter()
            .map(|p| p.taken_pixels.iter().filter(|d| d.value == 255).map(|d| [d.dy, d.dx]).collect())
            .collect();
        let mut candidates = Vec::new();
        for [dy, dx] in offsets {
            let angle = f64::from(dy).atan2(f64::from(dx));
            candidates.push(Candidate { dy, dx, paddle: paddles.len(), angle: angles.len() });
            paddles.push(Paddle::new(shape, angle + PI));
            angles.push(angle);
        }
        let weight = |last: f64, candidate: &Candidate| {
            let between = (angles[candidate.angle] - last).abs();
            let change = between.min(2.0 * PI - between) * continuity;
            change.min(PI / 2.0).cos().powi(2)
        };
        let weights = angles.iter().flat_map(|a| candidates.iter().map(|c| weight(*a, c))).collect();
        PaddleSet {
            size: size as i32,
            length: shape.length,
            margin: shape.margin,
            margin_offsets: offsets_in_circle(f64::from(shape.margin)),
            paddles,
            angles,
            candidates,
            weights,
            full_pixels,
        }
    }

    fn is_inside(&self, [y, x]: [i32; 2]) -> bool {
        (0..self.size).contains(&y) && (0..self.size).contains(&x)
    }

    /// A first paddle in the direction of whole degree `degree` from `tail`; `None` where it leaves the picture.
    fn first_tip(&self, tail: [i32; 2], degree: usize) -> Option<SnakeTip> {
        let angle = self.angles[degree];
        let head = point_at_distance(tail, angle, self.length);
        let pivot = point_at_distance(head, angle + PI, self.length + self.margin);
        let placed = PlacedPaddle { paddle: degree, at: tail };
        (self.is_inside(head) && self.is_inside(pivot)).then_some(SnakeTip {
            pivot,
            angle: degree,
            last_paddle: placed,
        })
    }

    /// A first paddle on an empty canvas, at least `border` pixels from the edge; `None` where there is no place. Gives
    /// what [`PaddleSet::place_first`] would, but faster, since the free pixels are a rectangle.
    pub(super) fn place_first_on_empty(&self, rng: &mut DataRng, border: i32) -> Option<SnakeTip> {
        for _ in 0..PADDLE_TRIALS {
            let degree = rng.below(360);
            let span = |axis: usize| {
                let places = || self.full_pixels[degree].iter().map(|d| d[axis]);
                let (low, high) = (places().min().unwrap_or(0), places().max().unwrap_or(0));
                (border - low, self.size - border - high)
            };
            let ((top, bottom), (left, right)) = (span(0), span(1));
            if bottom <= top || right <= left {
                return None;
            }
            let width = right - left;
            let n = rng.below(((bottom - top) * width) as usize) as i32;
            if let Some(tip) = self.first_tip([top + n / width, left + n % width], degree) {
                return Some(tip);
            }
        }
        None
    }

    /// A first paddle on free pixels, at least `border` from the edge; `None` where there is no place.
    pub(super) fn place_first(&self, rng: &mut DataRng, canvas: &Canvas, border: i32) -> Option<SnakeTip> {
        for _ in 0..PADDLE_TRIALS {
            let degree = rng.below(360);
            let free = self.free_pixels(canvas, &self.full_pixels[degree], border);
            let count: u32 = free.iter().map(|row| row.count_ones()).sum();
            if count == 0 {
                return None;
            }
            let tail = nth_bit(&free, rng.below(count as usize) as u32);
            if let Some(tip) = self.first_tip(tail, degree) {
                return Some(tip);
            }
        }
        None
    }

    /// A first paddle that begins at `distance` from `point`.
    pub(super) fn place_first_near(
        &self,
        rng: &mut DataRng,
        point: [i32; 2],
        distance: i32,
    ) -> Option<SnakeTip> {
        (0..PADDLE_TRIALS).find_map(|_| {
            let degree = rng.below(360);
            let direction = rng.below(360) as f64 * PI / 180.0;
            let along = |unit: f64| (f64::from(distance) * unit).round() as i32;
            let tail = [point[0] + along(direction.sin()), point[1] + along(direction.cos())];
            if self.is_inside(tail) { self.first_tip(tail, degree) } else { None }
        })
    }

    /// The pixels from which a paddle with these fully taken pixels can be drawn without covering any taken pixel, as
    /// one bit mask per row; `border` pixels along the edge count as taken.
    fn free_pixels(&self, canvas: &Canvas, full_pixels: &[[i32; 2]], border: i32) -> Vec<u128> {
        let all = u128::MAX >> (128 - self.size);
        let edge = |y: i32| if (border..self.size - border).contains(&y) { all } else { 0 };
        let inner = if 2 * border < self.size { (all >> (2 * border)) << border } else { 0 };
        let mut blocked = vec![0u128; self.size as usize];
        for y in 0..self.size {
            for [dy, dx] in full_pixels.iter().filter(|d| (0..self.size).contains(&(y + d[0]))) {
                let row = canvas.taken_bits[(y + dy) as usize] | !(inner & edge(y + dy));
                // Pixels outside the picture are free: a shift fills with 0.
                let row = row & all;
                blocked[y as usize] |= if *dx >= 0 { row >> *dx } else { row << -dx };
            }
        }
        blocked.iter().map(|row| !row & all).collect()
    }

    /// Adds a paddle to a snake and puts the one before it on the canvas. Returns the new paddle's far end, `None`
    /// where nothing fits.
    pub(super) fn add_paddle(
        &self,
        rng: &mut DataRng,
        canvas: &mut Canvas,
        tip: &mut SnakeTip,
    ) -> Option<[i32; 2]> {
        let pivot = point_at_distance(tip.pivot, self.angles[tip.angle], self.length + 2 * self.margin);
        let count = self.candidates.len();
        let weights = &self.weights[tip.angle * count..][..count];
        let mut sums = [0.0; 128];
        let mut total = 0.0;
        for (i, (candidate, weight)) in self.candidates.iter().zip(weights).enumerate() {
            let at = [pivot[0] + candidate.dy, pivot[1] + candidate.dx];
            if *weight > 0.0 && self.is_inside(at) {
                let open = 1.0 - f64::from(self.taken_around(canvas, at)) / 255.0;
                total += weight * open;
            }
            sums[i] = total;
        }
        if total < 1e-4 {
            return None;
        }
        for _ in 0..PADDLE_TRIALS {
            let drawn = rng.uniform() * total;
            let candidate = self.candidates[sums[..count].partition_point(|s| *s <= drawn).min(count - 1)];
            let at = [pivot[0] + candidate.dy, pivot[1] + candidate.dx];
            let placed = PlacedPaddle { paddle: candidate.paddle, at };
            if !self.touches(canvas, placed) {
                self.mark_taken(canvas, tip.last_paddle);
                *tip = SnakeTip { pivot, angle: candidate.angle, last_paddle: placed };
                return Some(at);
            }
        }
        None
    }

    /// The largest coverage (0 to 255) within the margin of a pixel.
    fn taken_around(&self, canvas: &Canvas, at: [i32; 2]) -> u8 {
        let near = self.margin_offsets.iter().map(|[dy, dx]| [at[0] + dy, at[1] + dx]);
        near.filter(|p| self.is_inside(*p)).map(|p| canvas.coverage[self.pixel_index(p)]).max().unwrap_or(0)
    }

    fn pixel_index(&self, [y, x]: [i32; 2]) -> usize {
        (y * self.size + x) as usize
    }

    /// Whether a paddle would touch something on the canvas.
    fn touches(&self, canvas: &Canvas, placed: PlacedPaddle) -> bool {
        self.paddles[placed.paddle].taken_pixels.iter().any(|dot| {
            let at = [placed.at[0] + dot.dy, placed.at[1] + dot.dx];
            self.is_inside(at)
                && u16::from(canvas.coverage[self.pixel_index(at)]) + u16::from(dot.value)
                    >= TOUCHING_COVERAGE
        })
    }

    /// Marks the pixels of a paddle and its margin as taken.
    pub(super) fn mark_taken(&self, canvas: &mut Canvas, placed: PlacedPaddle) {
        for dot in &self.paddles[placed.paddle].taken_pixels {
            let at = [placed.at[0] + dot.dy, placed.at[1] + dot.dx];
            if self.is_inside(at) {
                let pixel = &mut canvas.coverage[self.pixel_index(at)];
                *pixel = (*pixel).max(dot.value);
                if *pixel > TAKEN_COVERAGE {
                    canvas.taken_bits[at[0] as usize] |= 1 << at[1];
                }
            }
        }
    }
}

impl Canvas {
    /// A canvas without paddles, on which `padding` pixels along the edge are taken.
    pub(super) fn new(size: usize, padding: usize) -> Self {
        let mut canvas = Canvas { coverage: vec![0; size * size], taken_bits: vec![0; size] };
        let inner = padding..size - padding;
        for i in (0..size * size).filter(|i| !(inner.contains(&(i / size)) && inner.contains(&(i % size)))) {
            canvas.coverage[i] = 255;
            canvas.taken_bits[i / size] |= 1 << (i % size);
        }
        canvas
    }

    /// Share of the pixels that are free.
    pub(super) fn free_share(&self) -> f64 {
        let taken_pixels: u32 = self.taken_bits.iter().map(|row| row.count_ones()).sum();
        1.0 - f64::from(taken_pixels) / self.coverage.len() as f64
    }
}

/// Row and column of the n-th set bit, in reading order.
fn nth_bit(rows: &[u128], mut n: u32) -> [i32; 2] {
    for (y, row) in rows.iter().enumerate() {
        let ones = row.count_ones();
        if n < ones {
            let mut row = *row;
            for _ in 0..n {
                row &= row - 1;
            }
            return [y as i32, row.trailing_zeros() as i32];
        }
        n -= ones;
    }
    unreachable!("n is below the number of set bits")
}
