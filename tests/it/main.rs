//! The one integration binary; each module tells one kind of story.

mod activator;
mod alerts;
mod balancing;
mod calibrate;
mod cli;
mod connections;
mod conservation;
mod contracts;
mod determinism;
mod errors;
mod fidelity;
mod health;
mod hedging;
mod inside;
mod layers;
mod machines;
mod manifests;
mod overload;
mod papers;
mod production;
mod queueing;
mod scenarios;
mod snapshots;
mod story;
mod vertical;
mod workloads;
