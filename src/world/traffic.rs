//! Bytes that attempts bring into their instance and take out of it: counted, and in nobody's way.

use super::World;

impl World<'_> {
    /// The request of `slot` has come in, or (`false`) its answer goes out.
    #[inline]
    pub(super) fn count_bytes(&mut self, slot: u32, comes_in: bool) {
        if self.is_wire(slot) {
            return;
        }
        let frame = &self.frames[slot];
        let instance = &mut self.instances[frame.instance as usize];
        let spec = &self.spec.services[instance.service as usize];
        if spec.network_use.is_empty() {
            return;
        }
        // The last endpoint that begins no later than where the attempt is.
        let endpoint = spec.endpoints.partition_point(|(_, entry)| *entry <= frame.pc) - 1;
        let (bytes_in, bytes_out) = spec.network_use[endpoint];
        let bytes = if comes_in { bytes_in } else { bytes_out };
        instance.more.network_bytes = instance.more.network_bytes.saturating_add(bytes);
        let service = &mut self.services[instance.service as usize];
        service.network_bytes = service.network_bytes.saturating_add(bytes);
    }
}
