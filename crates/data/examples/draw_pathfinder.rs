//! Draws ten pictures of Pathfinder and ten of Path-X, enlarged, as PNG files in the folder given. In the upper row one
//! snake joins the markers, in the lower row none does.

use image::{GrayImage, Luma};
use s4_data::{Pathfinder, PathfinderRules};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    for (name, rules, scale) in
        [("pathfinder", PathfinderRules::pathfinder(), 6u32), ("pathx", PathfinderRules::path_x(), 2)]
    {
        let side = rules.size;
        let examples = Pathfinder::new(rules)?.examples(42, 0..60);
        let cell = side as u32 * scale + 8;
        let mut sheet = GrayImage::from_pixel(5 * cell, 2 * cell, Luma([90]));
        for label in [1u8, 0] {
            let chosen = (0..60).filter(|i| examples.labels[*i] == label).take(5);
            for (column, i) in chosen.enumerate() {
                let picture = &examples.pixels[i * side * side..][..side * side];
                for (k, pixel) in picture.iter().enumerate() {
                    for s in 0..scale * scale {
                        let x = column as u32 * cell + 4 + (k % side) as u32 * scale + s % scale;
                        let y = u32::from(1 - label) * cell + 4 + (k / side) as u32 * scale + s / scale;
                        sheet.put_pixel(x, y, Luma([*pixel]));
                    }
                }
            }
        }
        sheet.save(std::path::Path::new(&folder).join(format!("{name}.png")))?;
    }
    Ok(())
}
