//! Pathfinder (Linsley et al. 2018) with the settings of the Long Range Arena: pictures of two long snakes (dashed
//! curves) among short ones and of two round markers; the label says whether the markers are the ends of one snake.

use super::paddle::{PaddleShape, StampPixel, marker_stamp};
use super::snakes::{Canvas, PaddleSet, PlacedPaddle, SnakeTip};
use crate::{DataError, DataRng, Result};
use rayon::prelude::*;
use std::ops::Range;

/// How often a picture is tried before rules count as impossible. With the published rules about one attempt in a
/// hundred or more succeeds.
const MAX_ATTEMPTS: usize = 20_000;

/// How pictures are drawn, sizes in pixels; [`PathfinderRules::pathfinder`] and [`PathfinderRules::path_x`] are the
/// published rules.
#[derive(Clone, Debug, PartialEq)]
pub struct PathfinderRules {
    /// Side of the picture, at most 128.
    pub size: usize,
    /// Edge that no snake enters.
    pub padding: usize,
    /// Paddles of each of the two target snakes.
    pub contour_length: usize,
    /// Short snakes that are tried; fewer are drawn where they find no room.
    pub distractors: usize,
    /// Paddles of a short snake.
    pub distractor_length: usize,
    /// Length of a paddle.
    pub paddle_length: usize,
    /// Width of a paddle.
    pub paddle_thickness: f64,
    /// Space left around paddles; each picture uses one of these, chosen at random.
    pub margins: Vec<usize>,
    /// Distance between the beginnings of the two target snakes.
    pub seed_distance: usize,
    /// Radius of the markers.
    pub marker_radius: f64,
    /// How straight snakes are, 1 or more: from paddle to paddle their direction changes by less than 90°/continuity.
    pub continuity: f64,
    /// Brightness of the target snakes, the markers being 1.
    pub target_contrast: f64,
    /// Brightness of the short snakes.
    pub distractor_contrast: f64,
    /// Factor by which paddles are drawn larger before they are reduced to their size.
    pub antialias: usize,
}

impl PathfinderRules {
    /// Rules of Pathfinder, 32 × 32. Contrasts: the published program multiplies 2 by 0.75, but only for targets.
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

    /// Rules of Path-X, 128 × 128. The published program divides integers: 14/3 = 4 paddles, 35/4 = 8 short snakes.
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

    fn check_sizes(&self) -> Result<()> {
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

/// Draws pictures by rules. Computes once what depends on the rules alone, as the stamps of all paddles.
#[derive(Clone, Debug)]
pub struct Pathfinder {
    rules: PathfinderRules,
    /// One set for each of the rules' margins.
    paddle_sets: Vec<PaddleSet>,
    marker_stamp: Vec<StampPixel>,
    /// An empty canvas, of which each attempt gets a copy: most attempts fail early, so that creating it each time
    /// would be most of the work.
    empty_canvas: Canvas,
}

/// The snakes of a picture.
struct SnakeLayout {
    /// Paddles of both target snakes, by turns.
    target_paddles: Vec<PlacedPaddle>,
    /// Paddles of the short snakes.
    short_snake_paddles: Vec<PlacedPaddle>,
    /// Where each of the two target snakes begins, [y, x].
    target_begins: [[i32; 2]; 2],
    /// Where each of the two target snakes ends, in the same order.
    target_ends: [[i32; 2]; 2],
}

impl Pathfinder {
    /// Refuses sizes that leave no room for two snakes.
    pub fn new(rules: PathfinderRules) -> Result<Self> {
        rules.check_sizes()?;
        let paddle_set = |margin: &usize| {
            let shape = PaddleShape {
                length: rules.paddle_length as i32,
                thickness: rules.paddle_thickness,
                margin: *margin as i32,
                antialias: rules.antialias as i32,
            };
            PaddleSet::new(rules.size, shape, rules.continuity)
        };
        let paddle_sets = rules.margins.iter().map(paddle_set).collect();
        let marker_stamp = marker_stamp(rules.marker_radius, rules.antialias as i32);
        let empty_canvas = Canvas::new(rules.size, rules.padding);
        let pathfinder = Pathfinder { rules, paddle_sets, marker_stamp, empty_canvas };
        // With rules by which no picture ever succeeds, `examples` would never return.
        let possible = |paddles: &PaddleSet| {
            let mut rng = DataRng::new(0, 0);
            (0..MAX_ATTEMPTS).any(|_| pathfinder.try_layout(&mut rng, paddles).is_some())
        };
        match pathfinder.paddle_sets.iter().all(possible) {
            true => Ok(pathfinder),
            false => Err(DataError::new("pathfinder: expected sizes that leave room for two snakes")),
        }
    }

    /// The examples with numbers in `range` for this seed, drawn on all threads of rayon's pool. Example i is the same
    /// in every range.
    pub fn examples(&self, seed: u64, range: Range<u64>) -> LabelledPictures {
        let (count, side) = (range.end.saturating_sub(range.start) as usize, self.rules.size);
        let mut examples =
            LabelledPictures { pixels: vec![0; count * side * side], labels: vec![0; count], side };
        examples.pixels.par_chunks_mut(side * side).zip(examples.labels.par_iter_mut()).enumerate().for_each(
            |(i, (pixels, label))| *label = self.draw_example(seed, range.start + i as u64, pixels),
        );
        examples
    }

    /// Draws example `index` into (side, side) pixels and returns its label: 1 (with probability ½) where the markers
    /// are the ends of one snake, 0 where they are ends of two.
    fn draw_example(&self, seed: u64, index: u64, pixels: &mut [u8]) -> u8 {
        let mut rng = DataRng::new(seed, index);
        let label = rng.below(2);
        let paddles = &self.paddle_sets[rng.below(self.paddle_sets.len())];
        let layout = loop {
            if let Some(layout) = self.try_layout(&mut rng, paddles) {
                break layout;
            }
        };
        let snake_of_begin = rng.below(2);
        let snake_of_end = if label == 1 { snake_of_begin } else { 1 - snake_of_begin };
        let markers = [layout.target_begins[snake_of_begin], layout.target_ends[snake_of_end]];
        self.draw_pixels(paddles, &layout, markers, pixels);
        label as u8
    }

    /// One attempt to place the snakes: both target snakes grow by a paddle alternately, and `None` where one of them
    /// finds no room; short snakes follow, as many as find room.
    fn try_layout(&self, rng: &mut DataRng, paddle_set: &PaddleSet) -> Option<SnakeLayout> {
        let rules = &self.rules;
        let first = paddle_set.place_first_on_empty(rng, 2 * rules.seed_distance as i32)?;
        let second = paddle_set.place_first_near(rng, first.last_paddle.at, rules.seed_distance as i32)?;
        let mut canvas = self.empty_canvas.clone();
        let mut tips = [first, second];
        let target_begins = tips.map(|tip| tip.last_paddle.at);
        let mut target_ends = target_begins;
        let mut target_paddles: Vec<PlacedPaddle> = tips.iter().map(|tip| tip.last_paddle).collect();
        for _ in 1..rules.contour_length {
            for (tip, end) in tips.iter_mut().zip(&mut target_ends) {
                *end = paddle_set.add_paddle(rng, &mut canvas, tip)?;
                target_paddles.push(tip.last_paddle);
            }
        }
        tips.iter().for_each(|tip| paddle_set.mark_taken(&mut canvas, tip.last_paddle));
        let mut short_snake_paddles = Vec::new();
        for _ in 0..rules.distractors {
            // Five attempts for each short snake, since the picture may have no room left.
            for _ in 0..5 {
                if let Some((grown, paddles)) = self.short_snake(rng, paddle_set, &canvas) {
                    canvas = grown;
                    short_snake_paddles.extend(paddles);
                    break;
                }
            }
        }
        Some(SnakeLayout { target_paddles, short_snake_paddles, target_begins, target_ends })
    }

    /// One attempt to add a short_snake_paddles snake: the canvas with the snake on it, and the snake's paddles.
    fn short_snake(
        &self,
        rng: &mut DataRng,
        paddle_set: &PaddleSet,
        canvas: &Canvas,
    ) -> Option<(Canvas, Vec<PlacedPaddle>)> {
        if canvas.free_share() < 0.01 {
            return None;
        }
        let mut tip: SnakeTip = paddle_set.place_first(rng, canvas, 1)?;
        let mut canvas = canvas.clone();
        let mut paddles = vec![tip.last_paddle];
        for _ in 1..self.rules.distractor_length {
            paddle_set.add_paddle(rng, &mut canvas, &mut tip)?;
            paddles.push(tip.last_paddle);
        }
        paddle_set.mark_taken(&mut canvas, tip.last_paddle);
        Some((canvas, paddles))
    }

    /// Draws the snakes and a marker at each point of `marked` into (side, side) pixels, and scales the brightest to
    /// 255.
    fn draw_pixels(
        &self,
        paddles: &PaddleSet,
        layout: &SnakeLayout,
        marked: [[i32; 2]; 2],
        pixels: &mut [u8],
    ) {
        let side = self.rules.size as i32;
        let mut brightness = vec![0f32; pixels.len()];
        let mut stamp = |dots: &[StampPixel], at: [i32; 2], contrast: f64| {
            for dot in dots {
                let (y, x) = (at[0] + dot.dy, at[1] + dot.dx);
                if (0..side).contains(&y) && (0..side).contains(&x) {
                    let pixel = &mut brightness[(y * side + x) as usize];
                    *pixel = pixel.max(f32::from(dot.value) * contrast as f32);
                }
            }
        };
        for (placed, contrast) in [
            (&layout.target_paddles, self.rules.target_contrast),
            (&layout.short_snake_paddles, self.rules.distractor_contrast),
        ] {
            placed.iter().for_each(|p| stamp(&paddles.paddles[p.paddle].ink, p.at, contrast));
        }
        marked.iter().for_each(|at| stamp(&self.marker_stamp, *at, 1.0));
        let brightest = brightness.iter().fold(1f32, |a, b| a.max(*b));
        for (pixel, value) in pixels.iter_mut().zip(&brightness) {
            *pixel = (value / brightest * 255.0).round() as u8;
        }
    }
}
