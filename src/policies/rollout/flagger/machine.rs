//! What one tick changes (`advanceCanary` from the point at which the new version is ready).

use std::cmp::Ordering;

use super::FlaggerSettings;

/// Phase of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlaggerPhase {
    /// The weight goes up.
    Progressing,
    /// The primary is updated and gets its traffic back.
    Promoting,
    /// The canary goes.
    Finalising,
    /// The primary is the new version.
    Succeeded,
    /// It went back.
    Failed,
}

impl FlaggerPhase {
    /// As upstream writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Progressing => "Progressing",
            Self::Promoting => "Promoting",
            Self::Finalising => "Finalising",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// Where a canary stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Weight of the primary.
    pub primary: u32,
    /// Weight of the canary.
    pub canary: u32,
    /// The canary gets copies.
    pub mirrored: bool,
    /// Checks that failed; never fewer.
    pub failed_checks: u32,
    /// Ticks of a blue/green rollout.
    pub iterations: u32,
    /// See there.
    pub phase: FlaggerPhase,
}

impl Machine {
    /// The new version is ready, and nothing has happened.
    pub const fn new(settings: &FlaggerSettings) -> Self {
        Self {
            primary: settings.total_weight,
            canary: 0,
            mirrored: false,
            failed_checks: 0,
            iterations: 0,
            phase: FlaggerPhase::Progressing,
        }
    }

    /// Whether the next tick looks at the metrics. Before the first one nobody has used the new version.
    pub const fn wants_check(&self, settings: &FlaggerSettings) -> bool {
        let progressing = matches!(self.phase, FlaggerPhase::Progressing);
        let begun = self.canary > 0 || self.iterations > 0 || self.mirrored;
        progressing && self.failed_checks < settings.threshold && begun
    }

    /// Back to the primary.
    pub const fn roll_back(&mut self, settings: &FlaggerSettings) {
        (self.primary, self.canary, self.mirrored) = (settings.total_weight, 0, false);
        self.phase = FlaggerPhase::Failed;
    }

    /// One tick, with the verdict of its checks.
    pub fn tick(&mut self, settings: &FlaggerSettings, passed: bool) {
        match self.phase {
            FlaggerPhase::Promoting => self.shift_back(settings),
            FlaggerPhase::Finalising => self.phase = FlaggerPhase::Succeeded,
            FlaggerPhase::Progressing if self.failed_checks >= settings.threshold => self.roll_back(settings),
            FlaggerPhase::Progressing if !passed => self.failed_checks += 1,
            FlaggerPhase::Progressing if settings.iterations > 0 => self.blue_green(settings),
            FlaggerPhase::Progressing => self.advance(settings),
            FlaggerPhase::Succeeded | FlaggerPhase::Failed => {}
        }
    }

    /// `nextStepWeight`.
    fn next_step_weight(&self, settings: &FlaggerSettings) -> u32 {
        if settings.step_weights.is_empty() {
            return settings.step_weight;
        }
        let next = settings.step_weights.iter().find(|&&weight| weight > self.canary);
        next.map_or(0, |next| next - self.canary)
    }

    /// `runCanary`.
    fn advance(&mut self, settings: &FlaggerSettings) {
        if self.canary >= settings.max_weight() {
            self.phase = FlaggerPhase::Promoting;
            return;
        }
        let step = self.next_step_weight(settings);
        if settings.mirror && self.canary == 0 && !self.mirrored {
            self.mirrored = true;
            return;
        }
        self.mirrored = false;
        self.primary = self.primary.saturating_sub(step);
        self.canary = (self.canary + step).min(settings.total_weight);
    }

    /// `runBlueGreen`.
    fn blue_green(&mut self, settings: &FlaggerSettings) {
        match self.iterations.cmp(&settings.iterations) {
            Ordering::Less => {
                self.mirrored |= settings.mirror;
                self.iterations += 1;
            }
            Ordering::Equal => {
                (self.primary, self.canary, self.mirrored) = (0, settings.total_weight, false);
                self.iterations += 1;
            }
            Ordering::Greater => self.phase = FlaggerPhase::Promoting,
        }
    }

    /// `runPromotionTrafficShift`.
    fn shift_back(&mut self, settings: &FlaggerSettings) {
        let step = settings.step_weight_promotion;
        if step == 0 {
            (self.primary, self.canary) = (settings.total_weight, 0);
            self.phase = FlaggerPhase::Finalising;
        } else if self.canary > 0 {
            self.primary = (self.primary + step).min(settings.total_weight);
            self.canary = self.canary.saturating_sub(step);
            if self.primary == settings.total_weight {
                self.phase = FlaggerPhase::Finalising;
            }
        }
    }
}
