//! Queues of instances: who starts next, and who is shed.

use super::{Check, calls};
use crate::policies::limiter::{Limiter as _, LimiterSettings};
use crate::policies::shedding::SheddingSettings;
use crate::policies::shedding::failsafe_go_priority::PRIORITIES;
use crate::scenario::de::Spanned;
use crate::scenario::error::Diagnostic;
use crate::scenario::model::{Order, Scenario, Standing};
use crate::scenario::schema::{Count, InstanceTable, OrderWord, ServiceTable, SourceTable};
use crate::time::Time;

impl Check<'_> {
    /// Which waiting attempt starts next.
    pub(super) fn order(&mut self, table: &InstanceTable) -> Order {
        let word = table.order.map_or(OrderWord::Fifo, |order| order.value);
        if !matches!(word, OrderWord::AdaptiveLifo) {
            let odd = [
                ("lifo-threshold", table.lifo_threshold.map(|written| written.place)),
                ("lifo-after", table.lifo_after.map(|written| written.place)),
            ];
            for (name, place) in odd {
                if let Some(place) = place {
                    self.wrong(format!("`{name}` belongs to order = \"adaptive-lifo\""), place);
                }
            }
        }
        match word {
            OrderWord::Fifo => Order::Fifo,
            OrderWord::Lifo => Order::Lifo,
            OrderWord::Priority => Order::Priority,
            OrderWord::AdaptiveLifo => Order::AdaptiveLifo(self.standing(table)),
        }
    }

    /// When a queue is a standing one.
    fn standing(&mut self, table: &InstanceTable) -> Standing {
        match (&table.lifo_threshold, &table.lifo_after) {
            (Some(threshold), None) => Standing::Waiting(threshold.value),
            (None, Some(after)) => Standing::For(after.value),
            (Some(_), Some(after)) => {
                self.wrong(
                    "a queue stands by its length or by its age: lifo-threshold or lifo-after",
                    after.place,
                );
                Standing::For(after.value)
            }
            (None, None) => {
                if let Some(order) = &table.order {
                    let error =
                        Diagnostic::new("when does this queue stand, so that the newest is served first?");
                    let hint = "write lifo-threshold = 16 (so many wait), or lifo-after = \"100ms\" (not empty for so long)";
                    self.errors.push(error.at(order.place).hint(hint));
                }
                Standing::Waiting(0)
            }
        }
    }

    /// Who decides over those who come and those whose turn has come.
    pub(super) fn shedding(&mut self, table: &InstanceTable) -> Option<SheddingSettings> {
        let settings = calls::set(&table.shedding)?;
        if let Some(queue) = &table.queue
            && matches!(queue.value, Count::Of(0))
            && !matches!(settings, SheddingSettings::Deadline(_))
        {
            let message =
                format!("with queue = 0 nobody waits, and `{}` has nobody to shed", settings.name());
            self.errors.push(Diagnostic::new(message).at(queue.place));
        }
        Some(settings)
    }

    /// The limiter in front of the queue, which is where the work waits.
    pub(super) fn own_limiter(&mut self, table: &ServiceTable) -> Option<LimiterSettings> {
        let Spanned { value: settings, place } = calls::set(&table.limiter)?;
        if settings.build(Time::ZERO).waiting_room().is_some() {
            let message =
                "nobody waits at the limiter of a service: it stands in front of the queue of each instance";
            let hint = "bound the wait there by `queue` and `queue-timeout`, or limit on the calling side ([service.X.callers])";
            self.errors.push(Diagnostic::new(message).at(place).hint(hint));
        }
        Some(settings)
    }

    /// Whether policies know the priorities of the sources.
    pub(super) fn priorities(&mut self, tables: &[SourceTable], scenario: &Scenario) {
        let five = |settings: &SheddingSettings| matches!(settings, SheddingSettings::FailsafeGoPriority(_));
        let mut sheds =
            scenario.services.iter().filter(|service| service.instance.shedding.as_ref().is_some_and(five));
        let Some(service) = sheds.next() else { return };
        for written in tables.iter().filter_map(|table| table.priority) {
            if written.value >= PRIORITIES {
                let most = PRIORITIES - 1;
                let message =
                    format!("`{}` sheds by the priorities 0 to {most} of failsafe-go", service.name);
                self.wrong(message, written.place);
            }
        }
    }
}
