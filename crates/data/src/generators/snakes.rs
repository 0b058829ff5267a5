//! Snakes: chains of paddles whose direction changes smoothly and that leave a margin around each other
//! (the contours of Houtkamp and Roelfsema 2010, as Linsley et al. 2018 draw them).

use super::paddle::{Paddle, PaddleShape, disc, translate};
use crate::DataRng;
use std::f64::consts::PI;

/// How often a paddle is drawn anew where it would touch something.
const PADDLE_TRIALS: usize = 3;
/// A pixel counts as taken above this share of full coverage.
const TAKEN: u8 = (0.3 * 255.0) as u8;
/// Two pieces touch where their coverages add up to this.
const TOUCH: u16 = (1.8 * 255.0) as u16;

/// A step from a pivot to the far end of the next paddle.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    dy: i32,
    dx: i32,
    /// Its paddle, drawn backwards from the far end.
    paddle: usize,
    /// Its direction, index of `angles`.
    angle: usize,
}

/// What depends on sizes alone, made once: all paddles, all directions, all steps.
#[derive(Clone, Debug)]
pub(super) struct Shapes {
    size: i32,
    length: i32,
    margin: i32,
    pub paddles: Vec<Paddle>,
    angles: Vec<f64>,
    candidates: Vec<Candidate>,
    /// (angles, candidates): cos² of the change of direction times the continuity, 0 from a right angle on.
    weights: Vec<f64>,
    around: Vec<[i32; 2]>,
    /// Of each whole degree: the pixels that its paddle takes fully.
    full: Vec<Vec<[i32; 2]>>,
}

/// Paddle `paddle` put on `at`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub paddle: usize,
    pub at: [i32; 2],
}

/// The growing end of a snake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tip {
    pivot: [i32; 2],
    angle: usize,
    /// The last paddle, not yet part of the board: the next one may come close to it.
    pub last: Placed,
}

/// How much of each pixel is taken.
#[derive(Clone, Debug)]
pub(super) struct Board {
    taken: Vec<u8>,
    /// Bit x of row y: whether that pixel counts as taken.
    rows: Vec<u128>,
}

impl Shapes {
    pub(super) fn new(size: usize, shape: PaddleShape, continuity: f64) -> Self {
        let step = shape.length + shape.margin;
        let mut offsets: Vec<[i32; 2]> = Vec::new();
        // One sample a pixel of the circle of radius `step`.
        for k in 0..(2.0 * PI * f64::from(step)).ceil() as i32 {
            let angle = f64::from(k) / f64::from(step);
            let floor = |unit: f64| (f64::from(step) * unit).floor() as i32;
            offsets.push([floor(angle.sin()), floor(angle.cos())]);
        }
        offsets.sort_unstable();
        offsets.dedup();
        let mut angles: Vec<f64> = (-180..180).map(|d| f64::from(d) * PI / 180.0).collect();
        let mut paddles: Vec<Paddle> = angles.iter().map(|a| Paddle::new(shape, *a)).collect();
        let full = paddles
            .iter()
            .map(|p| p.taken.iter().filter(|d| d.value == 255).map(|d| [d.dy, d.dx]).collect())
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
        Shapes {
            size: size as i32,
            length: shape.length,
            margin: shape.margin,
            around: disc(f64::from(shape.margin)),
            paddles,
            angles,
            candidates,
            weights,
            full,
        }
    }

    fn inside(&self, [y, x]: [i32; 2]) -> bool {
        (0..self.size).contains(&y) && (0..self.size).contains(&x)
    }

    /// A first paddle in the direction of whole degree `degree` from `tail`; `None` where it leaves the picture.
    fn tip(&self, tail: [i32; 2], degree: usize) -> Option<Tip> {
        let angle = self.angles[degree];
        let head = translate(tail, angle, self.length);
        let pivot = translate(head, angle + PI, self.length + self.margin);
        let placed = Placed { paddle: degree, at: tail };
        (self.inside(head) && self.inside(pivot)).then_some(Tip { pivot, angle: degree, last: placed })
    }

    /// A first paddle of an empty board, at least `border` from the edge; `None` where there is no place. The same as
    /// [`Shapes::seed`] there, where the free pixels are a rectangle.
    pub(super) fn seed_empty(&self, rng: &mut DataRng, border: i32) -> Option<Tip> {
        for _ in 0..PADDLE_TRIALS {
            let degree = rng.below(360);
            let span = |axis: usize| {
                let places = || self.full[degree].iter().map(|d| d[axis]);
                let (low, high) = (places().min().unwrap_or(0), places().max().unwrap_or(0));
                (border - low, self.size - border - high)
            };
            let ((top, bottom), (left, right)) = (span(0), span(1));
            if bottom <= top || right <= left {
                return None;
            }
            let width = right - left;
            let n = rng.below(((bottom - top) * width) as usize) as i32;
            if let Some(tip) = self.tip([top + n / width, left + n % width], degree) {
                return Some(tip);
            }
        }
        None
    }

    /// A first paddle on free pixels, at least `border` from the edge; `None` where there is no place.
    pub(super) fn seed(&self, rng: &mut DataRng, board: &Board, border: i32) -> Option<Tip> {
        for _ in 0..PADDLE_TRIALS {
            let degree = rng.below(360);
            let free = self.free(board, &self.full[degree], border);
            let count: u32 = free.iter().map(|row| row.count_ones()).sum();
            if count == 0 {
                return None;
            }
            let tail = nth_bit(&free, rng.below(count as usize) as u32);
            if let Some(tip) = self.tip(tail, degree) {
                return Some(tip);
            }
        }
        None
    }

    /// A first paddle that begins at `distance` from `point`.
    pub(super) fn seed_near(&self, rng: &mut DataRng, point: [i32; 2], distance: i32) -> Option<Tip> {
        (0..PADDLE_TRIALS).find_map(|_| {
            let degree = rng.below(360);
            let around = rng.below(360) as f64 * PI / 180.0;
            let along = |unit: f64| (f64::from(distance) * unit).round() as i32;
            let tail = [point[0] + along(around.sin()), point[1] + along(around.cos())];
            if self.inside(tail) { self.tip(tail, degree) } else { None }
        })
    }

    /// Pixels on which the stamp `full` covers nothing that is taken; the `border` counts as taken.
    fn free(&self, board: &Board, full: &[[i32; 2]], border: i32) -> Vec<u128> {
        let all = u128::MAX >> (128 - self.size);
        let edge = |y: i32| if (border..self.size - border).contains(&y) { all } else { 0 };
        let inner = if 2 * border < self.size { (all >> (2 * border)) << border } else { 0 };
        let mut blocked = vec![0u128; self.size as usize];
        for y in 0..self.size {
            for [dy, dx] in full.iter().filter(|d| (0..self.size).contains(&(y + d[0]))) {
                let row = board.rows[(y + dy) as usize] | !(inner & edge(y + dy));
                // Pixels outside the picture are free: a shift fills with 0.
                let row = row & all;
                blocked[y as usize] |= if *dx >= 0 { row >> *dx } else { row << -dx };
            }
        }
        blocked.iter().map(|row| !row & all).collect()
    }

    /// The next paddle of a snake; its last one becomes part of the board. Returns the far end, `None` where
    /// nothing fits.
    pub(super) fn extend(&self, rng: &mut DataRng, board: &mut Board, tip: &mut Tip) -> Option<[i32; 2]> {
        let pivot = translate(tip.pivot, self.angles[tip.angle], self.length + 2 * self.margin);
        let count = self.candidates.len();
        let weights = &self.weights[tip.angle * count..][..count];
        let mut sums = [0.0; 128];
        let mut total = 0.0;
        for (i, (candidate, weight)) in self.candidates.iter().zip(weights).enumerate() {
            let at = [pivot[0] + candidate.dy, pivot[1] + candidate.dx];
            if *weight > 0.0 && self.inside(at) {
                let open = 1.0 - f64::from(self.taken_around(board, at)) / 255.0;
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
            let placed = Placed { paddle: candidate.paddle, at };
            if !self.touches(board, placed) {
                self.take(board, tip.last);
                *tip = Tip { pivot, angle: candidate.angle, last: placed };
                return Some(at);
            }
        }
        None
    }

    /// The largest coverage within the margin of a pixel.
    fn taken_around(&self, board: &Board, at: [i32; 2]) -> u8 {
        let near = self.around.iter().map(|[dy, dx]| [at[0] + dy, at[1] + dx]);
        near.filter(|p| self.inside(*p)).map(|p| board.taken[self.index(p)]).max().unwrap_or(0)
    }

    fn index(&self, [y, x]: [i32; 2]) -> usize {
        (y * self.size + x) as usize
    }

    fn touches(&self, board: &Board, placed: Placed) -> bool {
        self.paddles[placed.paddle].taken.iter().any(|dot| {
            let at = [placed.at[0] + dot.dy, placed.at[1] + dot.dx];
            self.inside(at) && u16::from(board.taken[self.index(at)]) + u16::from(dot.value) >= TOUCH
        })
    }

    /// Makes a paddle part of the board.
    pub(super) fn take(&self, board: &mut Board, placed: Placed) {
        for dot in &self.paddles[placed.paddle].taken {
            let at = [placed.at[0] + dot.dy, placed.at[1] + dot.dx];
            if self.inside(at) {
                let pixel = &mut board.taken[self.index(at)];
                *pixel = (*pixel).max(dot.value);
                if *pixel > TAKEN {
                    board.rows[at[0] as usize] |= 1 << at[1];
                }
            }
        }
    }
}

impl Board {
    /// Free but for `padding` pixels along the edge.
    pub(super) fn new(size: usize, padding: usize) -> Self {
        let mut board = Board { taken: vec![0; size * size], rows: vec![0; size] };
        let inner = padding..size - padding;
        for i in (0..size * size).filter(|i| !(inner.contains(&(i / size)) && inner.contains(&(i % size)))) {
            board.taken[i] = 255;
            board.rows[i / size] |= 1 << (i % size);
        }
        board
    }

    /// Share of the pixels that are free.
    pub(super) fn free_share(&self) -> f64 {
        let taken: u32 = self.rows.iter().map(|row| row.count_ones()).sum();
        1.0 - f64::from(taken) / self.taken.len() as f64
    }
}

/// Row and column of set bit `n`, in reading order.
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
