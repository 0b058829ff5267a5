//! Readers, tools and generators, in one program: each of its own would be linked with all the libraries of the readers.

mod arrays;
mod audio;
mod damaged;
mod listops;
mod parts;
mod pathfinder;
mod pictures;
mod series;
mod table;
