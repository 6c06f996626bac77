//! Randomness by name, never by order.
//!
//! Two kinds of draws, so that changing a strategy never shifts anybody else's luck (common random numbers):
//!
//! * **Keyed draws** belong to one request: a [`Key`] is a hash of (seed, purpose, entity name, request number, call path,
//!   attempt), and [`Key::rng`] opens a tiny counter-based generator on it.
//! * **Streams** belong to one sequential process (the arrivals of a source, the failures of a node): [`Stream`] is a named
//!   `Xoshiro256PlusPlus` seeded from (seed, purpose, entity name).
//!
//! The name and order of strategies never enter a key. Laws are in [`law`], their building blocks (ziggurat tables and
//! thin transforms over explicit `libm`) in [`variate`].

pub mod law;
pub mod variate;
pub mod xxhash;

use std::convert::Infallible;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng as _, SeedableRng, TryRng};

/// A hash that names one draw, or the start of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub u64);

impl Key {
    /// The root of all draws of a replication.
    #[inline]
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x5151_6c61_625f_7631))
    }

    /// Narrowed by a number: request number, step, attempt.
    #[inline]
    #[must_use]
    pub const fn with(self, number: u64) -> Self {
        Self(mix(self.0 ^ number.wrapping_mul(GOLDEN)))
    }

    /// Narrowed by a name: purpose or entity. For set-up, not for the hot path.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        // FNV-1a over the bytes, then the finaliser; only equality of names matters here.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(mix(self.0 ^ hash))
    }

    /// The draws under this key, for laws.
    #[inline]
    pub const fn draws(self) -> Draws {
        Draws(self.0)
    }

    /// The draws under this key, for policies.
    #[inline]
    pub const fn rng(self) -> Rng {
        Rng { state: self.0, playback: None }
    }
}

/// `SplitMix64` over a key.
#[derive(Clone, Copy, Debug)]
pub struct Draws(u64);

impl Draws {
    /// Uniform in `[0, 1)` with 53 bits.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        unit(self.bits())
    }

    #[inline]
    const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }
}

impl TryRng for Draws {
    type Error = Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.bits() >> 32) as u32)
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.bits())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.bits().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// The generator that policies use: `SplitMix64` over a key, or a list of recorded draws.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
    playback: Option<Box<Playback>>,
}

/// Draws recorded from an upstream implementation, handed out in order.
#[derive(Clone, Debug, Default)]
pub struct Playback {
    /// Raw integers, for [`Rng::index`] (upstream's modulo is applied by the policy) and `next_u64`.
    pub integers: std::collections::VecDeque<u64>,
    /// Uniform numbers in `[0, 1)`, for [`Rng::unit`].
    pub units: std::collections::VecDeque<f64>,
}

impl Rng {
    /// A generator that hands out recorded draws and panics when it runs out of them.
    pub fn playback(playback: Playback) -> Self {
        Self { state: 0, playback: Some(Box::new(playback)) }
    }

    /// 64 random bits (or the next recorded integer).
    #[inline]
    pub fn bits(&mut self) -> u64 {
        if let Some(playback) = &mut self.playback {
            return playback.integers.pop_front().expect("a vector records every integer draw");
        }
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Uniform in `[0, 1)` with 53 bits (or the next recorded unit draw).
    #[inline]
    pub fn unit(&mut self) -> f64 {
        if let Some(playback) = &mut self.playback {
            return playback.units.pop_front().expect("a vector records every unit draw");
        }
        unit(self.bits())
    }

    /// Uniform in `0..n` by multiply-high; a recorded integer is taken as it is. `n` must not be 0.
    #[inline]
    pub fn index(&mut self, n: u32) -> u32 {
        if let Some(playback) = &mut self.playback {
            return playback.integers.pop_front().expect("a vector records every integer draw") as u32;
        }
        below(self.bits() as u32, n)
    }

    /// Two independent numbers, uniform in `0..n` and `0..m`, from the halves of one 64-bit draw; two recorded integers
    /// are taken as they are. Neither `n` nor `m` may be 0.
    #[inline]
    pub fn pair(&mut self, n: u32, m: u32) -> (u32, u32) {
        if self.playback.is_some() {
            return (self.index(n), self.index(m));
        }
        let bits = self.bits();
        (below(bits as u32, n), below((bits >> 32) as u32, m))
    }
}

/// Uniform in `[0, 1)` from 64 random bits.
#[inline]
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

/// `bits` scaled to `0..n` by multiply-high; the bias is below n / 2^32.
#[inline]
pub const fn below(bits: u32, n: u32) -> u32 {
    ((bits as u64 * n as u64) >> 32) as u32
}

impl TryRng for Rng {
    type Error = Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.bits() >> 32) as u32)
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.bits())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.bits().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// The generator of one sequential process.
#[derive(Clone, Debug)]
pub struct Stream(Xoshiro256PlusPlus);

impl Stream {
    /// The stream of `entity` for `purpose`.
    pub fn new(seed: u64, purpose: &str, entity: &str) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(Key::new(seed).named(purpose).named(entity).0))
    }

    /// Uniform in `[0, 1)` with 53 bits.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        unit(self.0.next_u64())
    }
}

impl TryRng for Stream {
    type Error = Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.next_u32())
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

/// The `SplitMix64` finaliser (Steele, Lea and Flood 2014; constants of Stafford's variant 13).
#[inline]
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 2^64 divided by the golden ratio, the increment of `SplitMix64`.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_matter_and_order_of_creation_does_not() {
        let draw = |purpose: &str, entity: &str| Stream::new(7, purpose, entity).next_u64();
        assert_eq!(draw("arrivals", "web"), draw("arrivals", "web"));
        assert_ne!(draw("arrivals", "web"), draw("arrivals", "app"));
        assert_ne!(draw("arrivals", "web"), draw("failures", "web"));
    }

    #[test]
    fn golden_bits() {
        // A change here changes every result of every user.
        assert_eq!(Key::new(1).named("demand").with(3).rng().bits(), 3_933_874_409_619_344_122);
        assert_eq!(Stream::new(1, "arrivals", "web").next_u64(), 4_760_209_063_308_777_348);
    }
}
