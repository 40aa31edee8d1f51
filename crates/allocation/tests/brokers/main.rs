//! What every broker must do for us, through the program as a process: each test is written once, and run for each broker.

mod faults;
mod forgetting;
mod relays;
mod sources;
mod world;
