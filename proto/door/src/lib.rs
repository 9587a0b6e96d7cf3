//! How a daemon opens its port.
