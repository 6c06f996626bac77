//! Contracts of elections, member by member; what a whole group must hold is tested beside the policies.

use simlab::policies::election::{
    Election, ElectionSettings, Envelope, From, LogEnd, Place, Seat, Standing, To,
};
use simlab::random::Key;
use simlab::time::Time;

use super::{STEPS, fold, for_each, hot, pause};

/// Who wakes it when it wants to be woken is not asked to come again at once for ever; terms never go back; who was shut down
/// does not lead; a message to oneself or to an empty seat is never sent.
#[test]
fn members() {
    for_each(ElectionSettings::KINDS, |_, text, settings: &ElectionSettings| {
        let seats = 3;
        let mut members: Vec<_> = (0..seats).map(|_| settings.build(Time::ZERO)).collect();
        let mut locks = simlab::policies::election::lease::Lock::default();
        let mut rng = Key::new(47).rng();
        let (mut now, mut digest) = (Time::ZERO, 0);
        let mut terms = [0; 3];
        let mut out: Vec<Envelope> = Vec::with_capacity(64);
        let mut under_way = Vec::with_capacity(1024);
        let mut led = false;
        for step in 0..STEPS {
            let seat = rng.index(seats);
            let index = u64::from(rng.index(3));
            let standing = Standing { log: LogEnd { term: 0, index }, eligible: rng.index(4) > 0 };
            let member = &mut members[seat as usize];
            let place = Place { me: Seat(seat), seats };
            match rng.index(400) {
                _ if step < seats => {
                    let member = &mut members[step as usize];
                    let place = Place { me: Seat(step), seats };
                    hot(|| member.on_start(now, place, standing, &mut rng, &mut out));
                }
                0 => hot(|| member.on_start(now, place, standing, &mut rng, &mut out)),
                1 => {
                    hot(|| member.on_shutdown(now, &mut out));
                    assert!(!member.is_leader(), "{text}: it was shut down");
                }
                2 => {
                    now += pause(&mut rng);
                    if hot(|| member.on_promote(now, &mut out)) {
                        assert_eq!(member.term(), terms[seat as usize] + 1, "{text}");
                    }
                }
                3..200 => {
                    let wakes = members.iter().filter_map(Election::next_wakeup);
                    now = now.max(wakes.min().unwrap_or(now));
                    for (seat, member) in members.iter_mut().enumerate() {
                        let mut times = 0;
                        while member.next_wakeup().is_some_and(|at| at <= now) {
                            hot(|| member.on_wakeup(now, standing, &mut rng, &mut out));
                            times += 1;
                            assert!(times < 5, "{text}: it wants to be woken at once again and again");
                        }
                        for envelope in out.drain(..) {
                            under_way.push((From::Member(Seat(seat as u32)), envelope));
                        }
                    }
                }
                _ if !under_way.is_empty() => {
                    let (from, envelope): (From, Envelope) =
                        under_way.swap_remove(rng.index(under_way.len() as u32) as usize);
                    if let (To::Lock, simlab::policies::election::Message::Lease(message)) =
                        (envelope.to, envelope.message)
                    {
                        let From::Member(back) = from else { panic!("a lock asks nothing") };
                        if let Some(answer) = locks.serve(&message) {
                            let message = simlab::policies::election::Message::Lease(answer);
                            under_way.push((From::Lock, Envelope { to: To::Member(back), message }));
                        }
                    }
                    let to = match envelope.to {
                        To::Lock => continue,
                        To::Member(seat) => seat.0,
                        To::Others => seat,
                    };
                    assert!(
                        to < seats && (from != From::Member(Seat(to)) || envelope.to == To::Others),
                        "{text}"
                    );
                    if from != From::Member(Seat(to)) {
                        let member = &mut members[to as usize];
                        hot(|| member.on_message(now, from, &envelope.message, standing, &mut rng, &mut out));
                        for envelope in out.drain(..) {
                            under_way.push((From::Member(Seat(to)), envelope));
                        }
                    }
                }
                _ => now += pause(&mut rng),
            }
            for envelope in out.drain(..) {
                under_way.push((From::Member(Seat(seat)), envelope));
            }
            if under_way.len() > 900 {
                under_way.clear();
            }
            for (member, term) in members.iter().zip(&mut terms) {
                // A lease's term is what its member has last read, which a new process does not know.
                assert!(member.term() >= *term || text.contains("lease"), "{text}: a term goes back");
                *term = member.term();
                led |= member.is_leader();
                fold(&mut digest, member.term() << 1 | u64::from(member.is_leader()));
            }
        }
        assert!(led, "{text}: nobody ever led");
        digest
    });
}
