//! Pathfinder (Linsley et al. 2018) as the Long Range Arena drew it: two long snakes among short ones, two
//! round markers; the label says whether one snake joins the markers.

use super::paddle::{Dot, PaddleShape, marker};
use super::snakes::{Board, Placed, Shapes, Tip};
use crate::{DataError, DataRng, Result};
use rayon::prelude::*;
use std::ops::Range;

/// Of the published rules about one attempt in some hundred succeeds.
const ATTEMPTS: usize = 20_000;

/// Sizes in pixels; [`PathfinderRules::pathfinder`] and [`PathfinderRules::path_x`] are the published ones.
#[derive(Clone, Debug, PartialEq)]
pub struct PathfinderRules {
    /// Side of the picture, at most 128.
    pub size: usize,
    /// Edge that no snake enters.
    pub padding: usize,
    /// Paddles of each of the two target snakes.
    pub contour_length: usize,
    /// How many short snakes are tried, and of how many paddles.
    pub distractors: usize,
    /// Paddles of a short snake.
    pub distractor_length: usize,
    /// Length of a paddle.
    pub paddle_length: usize,
    /// Width of a paddle.
    pub paddle_thickness: f64,
    /// Space left around paddles; one of these is drawn for each picture.
    pub margins: Vec<usize>,
    /// Distance of the beginnings of the two target snakes.
    pub seed_distance: usize,
    /// Radius of the markers.
    pub marker_radius: f64,
    /// How strongly direction persists, 1 or more: 1 allows changes of up to a right angle.
    pub continuity: f64,
    /// Brightness of the target snakes, the markers being 1.
    pub target_contrast: f64,
    /// Brightness of the short snakes.
    pub distractor_contrast: f64,
    /// Paddles are drawn so many times larger, then reduced.
    pub antialias: usize,
}

impl PathfinderRules {
    /// Pathfinder, 32 × 32. The published program multiplies the contrast 2 by .75 for targets alone.
    pub fn pathfinder() -> Self {
        PathfinderRules {
            size: 32,
            padding: 1,
            contour_length: 14,
            distractors: 5,
            distractor_length: 4,
            paddle_length: 2,
            paddle_thickness: 0.5,
            margins: vec![1],
            seed_distance: 7,
            marker_radius: 1.5,
            continuity: 1.0,
            target_contrast: 1.5,
            distractor_contrast: 2.0,
            antialias: 2,
        }
    }

    /// Path-X, 128 × 128. The published numbers are quotients of integers: 14/3 = 4 paddles, 35/4 = 8 short snakes.
    pub fn path_x() -> Self {
        PathfinderRules {
            size: 128,
            padding: 1,
            contour_length: 14,
            distractors: 8,
            distractor_length: 4,
            paddle_length: 5,
            paddle_thickness: 1.5,
            margins: vec![2, 3],
            seed_distance: 20,
            marker_radius: 3.0,
            continuity: 1.8,
            target_contrast: 0.9,
            distractor_contrast: 0.9,
            antialias: 2,
        }
    }

    fn check(&self) -> Result<()> {
        let refuse = |what: &str| Err(DataError::new(format!("pathfinder: {what}")));
        let within = |value: f64, low: f64, high: f64| (low..=high).contains(&value);
        if !(16..=128).contains(&self.size) {
            return refuse(&format!("expected a size of 16 to 128, got {}", self.size));
        }
        if 4 * self.seed_distance >= self.size || self.padding >= self.size / 4 {
            return refuse("expected a seed distance below a quarter of the size, and a padding too");
        }
        let lengths = [self.contour_length, self.distractor_length, self.paddle_length, self.antialias];
        if lengths.iter().any(|n| !(1..=16).contains(n)) || self.distractors > 1000 {
            return refuse("expected lengths and an antialias of 1 to 16 and at most 1,000 distractors");
        }
        if self.margins.is_empty() || self.margins.iter().any(|m| !(1..=4).contains(m)) {
            return refuse("expected margins of 1 to 4");
        }
        let contrasts = [self.target_contrast, self.distractor_contrast];
        if !within(self.paddle_thickness, 0.1, 4.0)
            || !within(self.marker_radius, 0.5, 8.0)
            || !within(self.continuity, 1.0, 8.0)
            || contrasts.iter().any(|c| !within(*c, 0.01, 10.0))
        {
            return refuse(
                "expected a thickness of .1 to 4, a radius of .5 to 8, a continuity of 1 to 8 and \
                 contrasts of .01 to 10",
            );
        }
        Ok(())
    }
}

/// Grey pictures with a label each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledPictures {
    /// (count, side, side): 0 is black, 255 the brightest pixel of its picture.
    pub pixels: Vec<u8>,
    /// (count).
    pub labels: Vec<u8>,
    /// Pixels of a row.
    pub side: usize,
}

/// Draws pictures by rules; what depends on the rules alone is made once.
#[derive(Clone, Debug)]
pub struct Pathfinder {
    rules: PathfinderRules,
    /// One for each margin.
    shapes: Vec<Shapes>,
    marker: Vec<Dot>,
    /// Without snakes: most attempts fail early, so that making it would be most of the work.
    board: Board,
}

/// Where the snakes of a picture lie: paddles, and the two ends of each target.
struct Layout {
    targets: Vec<Placed>,
    short: Vec<Placed>,
    begins: [[i32; 2]; 2],
    ends: [[i32; 2]; 2],
}

impl Pathfinder {
    /// Refuses sizes that leave no room for two snakes.
    pub fn new(rules: PathfinderRules) -> Result<Self> {
        rules.check()?;
        let shape = |margin: &usize| {
            let shape = PaddleShape {
                length: rules.paddle_length as i32,
                thickness: rules.paddle_thickness,
                margin: *margin as i32,
                antialias: rules.antialias as i32,
            };
            Shapes::new(rules.size, shape, rules.continuity)
        };
        let shapes = rules.margins.iter().map(shape).collect();
        let marker = marker(rules.marker_radius, rules.antialias as i32);
        let board = Board::new(rules.size, rules.padding);
        let made = Pathfinder { rules, shapes, marker, board };
        // Where no picture ever succeeds, drawing would not end.
        let possible = |shapes: &Shapes| {
            let mut rng = DataRng::new(0, 0);
            (0..ATTEMPTS).any(|_| made.layout(&mut rng, shapes).is_some())
        };
        match made.shapes.iter().all(possible) {
            true => Ok(made),
            false => Err(DataError::new("pathfinder: expected sizes that leave room for two snakes")),
        }
    }

    /// Examples `range` of `seed`, on all threads of rayon's pool. Example i is the same in every range.
    pub fn examples(&self, seed: u64, range: Range<u64>) -> LabelledPictures {
        let (count, side) = (range.end.saturating_sub(range.start) as usize, self.rules.size);
        let mut made =
            LabelledPictures { pixels: vec![0; count * side * side], labels: vec![0; count], side };
        made.pixels
            .par_chunks_mut(side * side)
            .zip(made.labels.par_iter_mut())
            .enumerate()
            .for_each(|(i, (pixels, label))| *label = self.example(seed, range.start + i as u64, pixels));
        made
    }

    /// Draws example `index` into (side, side) pixels and returns its label, a fair coin: 1 where one snake
    /// has both markers.
    fn example(&self, seed: u64, index: u64, pixels: &mut [u8]) -> u8 {
        let mut rng = DataRng::new(seed, index);
        let label = rng.below(2);
        let shapes = &self.shapes[rng.below(self.shapes.len())];
        let layout = loop {
            if let Some(layout) = self.layout(&mut rng, shapes) {
                break layout;
            }
        };
        let begin = rng.below(2);
        let end = if label == 1 { begin } else { 1 - begin };
        self.draw(shapes, &layout, [layout.begins[begin], layout.ends[end]], pixels);
        label as u8
    }

    /// One attempt to grow both targets in turn; the short snakes are as many as find room.
    fn layout(&self, rng: &mut DataRng, shapes: &Shapes) -> Option<Layout> {
        let rules = &self.rules;
        let first = shapes.seed_empty(rng, 2 * rules.seed_distance as i32)?;
        let second = shapes.seed_near(rng, first.last.at, rules.seed_distance as i32)?;
        let mut board = self.board.clone();
        let mut tips = [first, second];
        let begins = tips.map(|tip| tip.last.at);
        let mut ends = begins;
        let mut targets: Vec<Placed> = tips.iter().map(|tip| tip.last).collect();
        for _ in 1..rules.contour_length {
            for (tip, end) in tips.iter_mut().zip(&mut ends) {
                *end = shapes.extend(rng, &mut board, tip)?;
                targets.push(tip.last);
            }
        }
        tips.iter().for_each(|tip| shapes.take(&mut board, tip.last));
        let mut short = Vec::new();
        for _ in 0..rules.distractors {
            // A few attempts each: the picture may have no room left.
            for _ in 0..5 {
                if let Some((grown, paddles)) = self.short_snake(rng, shapes, &board) {
                    board = grown;
                    short.extend(paddles);
                    break;
                }
            }
        }
        Some(Layout { targets, short, begins, ends })
    }

    fn short_snake(&self, rng: &mut DataRng, shapes: &Shapes, board: &Board) -> Option<(Board, Vec<Placed>)> {
        if board.free_share() < 0.01 {
            return None;
        }
        let mut tip: Tip = shapes.seed(rng, board, 1)?;
        let mut board = board.clone();
        let mut paddles = vec![tip.last];
        for _ in 1..self.rules.distractor_length {
            shapes.extend(rng, &mut board, &mut tip)?;
            paddles.push(tip.last);
        }
        shapes.take(&mut board, tip.last);
        Some((board, paddles))
    }

    fn draw(&self, shapes: &Shapes, layout: &Layout, marked: [[i32; 2]; 2], pixels: &mut [u8]) {
        let side = self.rules.size as i32;
        let mut light = vec![0f32; pixels.len()];
        let mut stamp = |dots: &[Dot], at: [i32; 2], contrast: f64| {
            for dot in dots {
                let (y, x) = (at[0] + dot.dy, at[1] + dot.dx);
                if (0..side).contains(&y) && (0..side).contains(&x) {
                    let pixel = &mut light[(y * side + x) as usize];
                    *pixel = pixel.max(f32::from(dot.value) * contrast as f32);
                }
            }
        };
        for (placed, contrast) in
            [(&layout.targets, self.rules.target_contrast), (&layout.short, self.rules.distractor_contrast)]
        {
            placed.iter().for_each(|p| stamp(&shapes.paddles[p.paddle].ink, p.at, contrast));
        }
        marked.iter().for_each(|at| stamp(&self.marker, *at, 1.0));
        let brightest = light.iter().fold(1f32, |a, b| a.max(*b));
        for (pixel, light) in pixels.iter_mut().zip(&light) {
            *pixel = (light / brightest * 255.0).round() as u8;
        }
    }
}
