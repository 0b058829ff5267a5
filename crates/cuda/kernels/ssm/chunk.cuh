#pragma once

constexpr int T = 64;  // time steps of a chunk, as in src/ssm/sizes.rs
