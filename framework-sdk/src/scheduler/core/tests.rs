//! Stories of the driver's rules. An output nobody looked at fails the story.

mod calls;
mod env;
mod hostile;
mod reconciling;
mod subscribing;
