//! Contracts of what judges endpoints and says who is there.

use simlab::policies::detector::{Detector, DetectorSettings, Probe, Verdict};
use simlab::policies::discovery::{Delivery, Discovery, DiscoverySettings};
use simlab::policies::host_selection::{
    Cluster, Health, Host, HostSelection, HostSelectionSettings, LocalHosts, SetIndex,
};
use simlab::policies::outlier::{Outlier, OutlierSettings};
use simlab::policies::view::Slot;
use simlab::random::{Key, Rng};
use simlab::time::{Duration, Time};

use super::{STEPS, ending, fold, for_each, hot, pause};

/// A list of endpoints, ascending; sometimes none.
fn some_slots(rng: &mut Rng) -> Vec<Slot> {
    let many = rng.index(12);
    (0..24).map(Slot).filter(|_| rng.index(24) < 2 * many).collect()
}

/// Whoever is ejected is on the list, what is told agrees with what is asked, and after long silence everybody is back.
#[test]
fn outliers() {
    for_each(OutlierSettings::KINDS, |_, text, settings: &OutlierSettings| {
        let mut policy = settings.build(Time::ZERO);
        let mut rng = Key::new(31).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        let mut hosts: Vec<Slot> = (0..10).map(Slot).collect();
        policy.on_update(now, &hosts);
        let mut out = [false; 24];
        let mut sweep = now + policy.interval();
        let mut ejected = 0;
        for step in 0..STEPS {
            now += pause(&mut rng);
            let update = rng.index(500) == 0;
            if now - sweep.min(now) > policy.interval() * 1000 {
                sweep = now;
            }
            if sweep <= now {
                hot(|| policy.on_interval(sweep, &mut rng));
                sweep += policy.interval();
            } else if update {
                hosts = some_slots(&mut rng);
                policy.on_update(now, &hosts);
                for (at, out) in out.iter_mut().enumerate() {
                    *out &= hosts.contains(&Slot(at as u32));
                }
            } else {
                // Any slot, also one that is not on the list: results come late.
                let slot = Slot(rng.index(24));
                let outcome = ending(&mut rng, step % 2000 < 1000);
                hot(|| policy.on_outcome(now, slot, &outcome, &mut rng));
                if rng.index(300) == 0 {
                    policy.on_check_passed(now, slot);
                }
            }
            while let Some(change) = policy.take_change() {
                let known = &mut out[change.slot.0 as usize];
                assert_ne!(*known, change.ejected, "{text}: told twice");
                *known = change.ejected;
                ejected += u32::from(change.ejected);
                fold(&mut digest, u64::from(change.slot.0) << 1 | u64::from(change.ejected));
            }
            for (at, out) in out.iter().enumerate() {
                let slot = Slot(at as u32);
                assert_eq!(policy.is_ejected(slot), *out, "{text}: {slot:?}");
                assert!(!out || hosts.contains(&slot), "{text}: {slot:?} is not on the list");
            }
        }
        assert!(ejected > 0, "{text}: nobody was ever ejected");
        for _ in 0..200 {
            now += Duration::from_secs(3600);
            policy.on_interval(now, &mut rng);
        }
        assert!((0..24).all(|slot| !policy.is_ejected(Slot(slot))), "{text}: somebody stays out for ever");
        digest
    });
}

/// Sets hold endpoints that exist, once each; the chosen set has somebody in it unless health leaves nobody.
#[test]
fn host_selections() {
    for_each(HostSelectionSettings::KINDS, |_, text, settings: &HostSelectionSettings| {
        let mut policy = settings.build(Time::ZERO);
        let mut rng = Key::new(37).rng();
        let zones: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let mut hosts: Vec<Host> = Vec::new();
        let (mut digest, mut empty) = (0, 0);
        for step in 0..STEPS {
            if step % 20 == 0 {
                let bad = rng.index(10);
                hosts = some_slots(&mut rng)
                    .into_iter()
                    .map(|slot| Host {
                        slot,
                        zone: slot.0 % 3,
                        health: match rng.index(10) {
                            health if health < bad => Health::Unhealthy,
                            9 => Health::Degraded,
                            _ => Health::Healthy,
                        },
                    })
                    .collect();
                let local: Vec<LocalHosts> = (0..3)
                    .map(|_| {
                        let total = rng.index(5);
                        LocalHosts { healthy: if total > 0 { rng.index(total + 1) } else { 0 }, total }
                    })
                    .collect();
                let zone = (rng.index(4) < 3).then(|| rng.index(3));
                policy.on_update(
                    Time::from_secs(u64::from(step)),
                    &Cluster { hosts: &hosts, local: &local, zone, zones: &zones },
                );
                for set in policy.sets() {
                    assert!(set.windows(2).all(|pair| pair[0] < pair[1]), "{text}: {set:?}");
                    assert!(set.iter().all(|slot| hosts.iter().any(|host| host.slot == *slot)), "{text}");
                }
            }
            let Some(SetIndex(at)) = hot(|| policy.choose(&mut rng)) else {
                fold(&mut digest, u64::MAX);
                continue;
            };
            let set = &policy.sets()[at as usize];
            let usable = hosts.iter().any(|host| host.health != Health::Unhealthy);
            empty += u32::from(usable && set.is_empty());
            let healthy =
                |slot: &Slot| hosts.iter().any(|host| host.slot == *slot && host.health != Health::Unhealthy);
            assert!(policy.is_panicking() || set.iter().all(healthy), "{text}: the unhealthy without panic");
            fold(&mut digest, u64::from(at));
        }
        // A locality may run dry by rounding, or hold only degraded ones; that is rare.
        assert!(empty < STEPS / 20, "{text}: {empty} empty sets");
        digest
    });
}

#[test]
fn detectors() {
    for_each(DetectorSettings::KINDS, |_, text, settings: &DetectorSettings| {
        let mut policy = settings.build(Time::ZERO);
        let mut rng = Key::new(41).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        let mut seen = [0_u32; 3];
        for step in 0..STEPS {
            let began = now;
            // Long silences, so that those who only hear heartbeats notice.
            now += if rng.index(50) == 0 { Duration::from_secs(60) } else { Duration(pause(&mut rng).0 / 8) };
            let result = match rng.index(if step % 400 < 200 { 20 } else { 3 }) {
                0 => Probe::Lost,
                1 => Probe::Failed,
                _ => Probe::Passed,
            };
            let before = policy.verdict(now);
            assert_eq!(before, policy.verdict(now), "{text}: looking moves it");
            hot(|| policy.on_result(now, result));
            if result != Probe::Passed {
                let worse = before == Verdict::Healthy || policy.verdict(now) != Verdict::Healthy;
                assert!(worse, "{text}: a failure heals");
            }
            let next = policy.next_probe(began, now, &mut rng);
            assert!(next >= now && next > began, "{text}: {next:?}");
            seen[policy.verdict(now) as usize] += 1;
            seen[before as usize] += 1;
            fold(&mut digest, policy.verdict(now) as u64);
        }
        assert!(policy.timeout() > Duration::ZERO && policy.interval() > Duration::ZERO);
        assert!(seen[1] > 0 && seen[2] > 0, "{text}: {seen:?}");
        digest
    });
}

/// Lists are ascending and hold nobody who has never registered; who says goodbye is off it at the next fetch or push.
#[test]
fn registries() {
    for_each(DiscoverySettings::KINDS, |_, text, settings: &DiscoverySettings| {
        let mut policy = settings.build(Time::ZERO);
        let mut rng = Key::new(43).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        let mut alive = [false; 24];
        let mut look = now;
        for _ in 0..STEPS / 10 {
            now += Duration(pause(&mut rng).0 / 4);
            if let Some(interval) = policy.interval() {
                while look <= now {
                    policy.on_interval(look, &mut |slot| alive[slot.0 as usize], &mut rng);
                    look = if look + interval * 1000 < now { now } else { look + interval };
                }
            }
            let slot = rng.index(24);
            match rng.index(40) {
                0 => {
                    policy.on_register(now, Slot(slot));
                    alive[slot as usize] = true;
                }
                1 => {
                    policy.on_deregister(now, Slot(slot));
                    alive[slot as usize] = false;
                }
                2 => policy.on_reported_gone(now, Slot(slot)),
                // Dies without a word.
                3 => alive[slot as usize] = false,
                _ if alive[slot as usize] => policy.on_heartbeat(now, Slot(slot)),
                _ => {}
            }
            let listed = policy.listed(now);
            assert!(listed.windows(2).all(|pair| pair[0] < pair[1]), "{text}: {listed:?}");
            assert!(listed.iter().all(|slot| slot.0 < 24), "{text}");
            fold(&mut digest, listed.iter().map(|slot| 1 << slot.0).sum());
        }
        match policy.delivery() {
            Delivery::Push(least, most) => assert!(least <= most, "{text}"),
            Delivery::Fetch(period) => assert!(period > Duration::ZERO, "{text}"),
        }
        for slot in 0..24 {
            policy.on_deregister(now, Slot(slot));
        }
        let far = now + Duration::from_secs(3600);
        policy.on_interval(far, &mut |_| false, &mut rng);
        assert!(policy.listed(far).is_empty(), "{text}: who has said goodbye is listed");
        digest
    });
}
