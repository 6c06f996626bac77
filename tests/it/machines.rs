//! Machines: where instances go, how pools grow and shrink, images, and how machines are lost; by figures worked out by hand.

use crate::story::tell;

/// One request a second.
const EVERY_SECOND: &str =
    "[[source]]\nname = \"web\"\nto = \"api.get\"\narrivals.deterministic = { rate = \"1/s\" }\n";

fn api(service: &str, instance: &str) -> String {
    format!(
        "[[service]]\nname = \"api\"\n{service}\ninstance = {{ cores = 1, {instance} }}\n\
         [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 10ms\"]\n{EVERY_SECOND}"
    )
}

fn scale(at: &str, replicas: u32) -> String {
    format!("[[action]]\nat = \"{at}\"\nscale = {{ service = \"api\", replicas = {replicas} }}\n")
}

/// Machines with room for two instances, and so many more that could be had.
fn pool(nodes: u32, more: &str) -> String {
    format!("[[node-pool]]\nname = \"metal\"\nnodes = {nodes}\ncores = 2\nmemory = \"8GiB\"\n{more}\n")
}

mod placement {
    use super::*;

    #[test]
    fn what_finds_no_room_waits_and_is_placed_when_somebody_leaves() {
        let other = "[[service]]\nname = \"other\"\nreplicas = 1\n\
                     [[service.endpoint]]\nname = \"get\"\nsteps = [\"cpu 10ms\"]\n";
        let stop = "[[action]]\nat = \"20s\"\nscale = { service = \"other\", replicas = 0 }\n";
        let told = tell(
            "60s",
            &format!(
                "{}{other}{}{}{stop}",
                pool(1, ""),
                api("replicas = 1", "start = \"5s\""),
                scale("10s", 2)
            ),
        );
        assert_eq!(told.times("api-1", "ready"), [25.0]);
    }

    #[test]
    fn anti_affinity_and_skew_leave_instances_waiting() {
        let zones = pool(3, "zones = [\"a\", \"b\", \"c\"]\nmin = 3\nmax = 3");
        let pending = |rule: &str| {
            let told = tell("20s", &format!("{zones}{}{}", api("replicas = 1", ""), scale("10s", 6)));
            assert_eq!(told.curve("metal", "pending_instances")[15], 0.0);
            let apart = api(&format!("replicas = 1\n{rule}"), "");
            tell("20s", &format!("{zones}{apart}{}", scale("10s", 6))).curve("metal", "pending_instances")[15]
        };
        assert_eq!(pending("anti-affinity = \"node\""), 3.0);
        assert_eq!(pending("anti-affinity = \"zone\""), 3.0);
        assert_eq!(pending("zone-max-skew = 1"), 0.0);
        let lopsided = format!(
            "[[node-pool]]\nname = \"metal\"\nnodes = 1\nmin = 1\ncores = 8\nmemory = \"8GiB\"\nzones = [\"a\"]\n\
             [[node-pool]]\nname = \"small\"\nnodes = 1\ncores = 1\nmemory = \"8GiB\"\nzones = [\"b\"]\n{}{}",
            api("node-pool = [\"metal\", \"small\"]\nzone-max-skew = 1", ""),
            scale("10s", 6)
        );
        // One in b, so at most two in a.
        assert_eq!(tell("20s", &lopsided).curve("metal", "pending_instances")[15], 3.0);
    }

    #[test]
    fn the_kube_scheduler_packs_if_it_is_told_to() {
        let run = |scheduler: &str| {
            let text = format!(
                "{scheduler}{}{}{}[[fault]]\nat = \"30s\"\nnode-loss = {{ pool = \"metal\", count = 1 }}\n",
                pool(2, ""),
                api("replicas = 0", ""),
                scale("10s", 2)
            );
            let told = tell("60s", &text);
            told.times("api-0", "died").len() + told.times("api-1", "died").len()
        };
        let fit_only = "balanced-allocation-weight = 0, pod-topology-spread-weight = 0";
        let lost =
            run(&format!("[scheduler]\nkube = {{ scoring-strategy = \"most-allocated\", {fit_only} }}\n"));
        assert!(lost == 0 || lost == 2, "both on one machine");
        assert_eq!(run(&format!("[scheduler]\nkube = {{ {fit_only} }}\n")), 1);
        assert_eq!(run(""), 1);
    }

    #[test]
    fn a_node_takes_so_many_instances_and_no_more() {
        let told = tell(
            "20s",
            &format!("{}{}{}", pool(1, "max-pods = 1\nmin = 1"), api("replicas = 1", ""), scale("10s", 2)),
        );
        assert_eq!(told.curve("metal", "pending_instances")[15], 1.0);
    }
}

mod growth {
    use super::*;

    const AUTOSCALER: &str = "[provisioner]\ncluster-autoscaler = {}\n";
    const GROWS: &str = "min = 1\nmax = 3\nboot = \"60s\"\nprice = \"3.6/h\"";

    #[test]
    fn a_pending_instance_becomes_a_node_and_then_an_instance() {
        let told = tell(
            "5min",
            &format!(
                "{AUTOSCALER}[provisioning]\ntakes = \"30s\"\n{}{}{}",
                pool(1, GROWS),
                api("replicas = 2", "start = \"5s\""),
                scale("50s", 3)
            ),
        );
        let decisions = told.decisions("provisioner");
        let (at, before, after, _) = decisions[0].clone();
        // The first look at which the instance is two seconds old: the scan is every ten seconds, at a phase of its own.
        assert!((52.0..=62.0).contains(&at), "{at}");
        assert_eq!((before, after, decisions.len()), (1.0, 2.0, 1));
        let soon = |name: &str, what: &str, after: f64| {
            let times = told.times(name, what);
            assert!(
                (times[0] - at - after).abs() < 1e-6 && times.len() == 1,
                "{name} {what}: {times:?}, {at}"
            );
        };
        soon("metal-1", "ordered", 0.0);
        soon("metal-1", "booting", 30.0);
        soon("metal-1", "ready", 90.0);
        soon("api-2", "ready", 95.0);
        // Paid for from the moment the machine is there, not from the order.
        told.is("node_hours", (300.0 + 300.0 - at - 30.0) / 3600.0);
        told.is("cost", 300.0 / 1000.0 + (300.0 - at - 30.0) / 1000.0);
    }

    #[test]
    fn orders_wait_for_a_free_hand_and_fail_when_they_wait_too_long() {
        let run = |settings: &str| {
            tell(
                "5min",
                &format!(
                    "{AUTOSCALER}[provisioning]\ntakes = \"30s\"\nconcurrency = 1\n{settings}\n{}{}{}",
                    pool(1, GROWS),
                    api("replicas = 2", ""),
                    scale("50s", 6)
                ),
            )
        };
        let told = run("");
        let first = told.times("metal-1", "ordered")[0];
        assert_eq!(told.times("metal-2", "ordered"), [first]);
        assert!((told.times("metal-1", "booting")[0] - first - 30.0).abs() < 1e-6);
        assert!((told.times("metal-2", "booting")[0] - first - 60.0).abs() < 1e-6);
        let told = run("timeout = \"45s\"");
        assert!((told.times("metal-2", "timed out")[0] - first - 45.0).abs() < 1e-6);
        let told = run("queue = 0");
        assert_eq!(told.times("metal-2", "refused"), [first]);
    }

    #[test]
    fn nothing_comes_in_an_outage_and_the_group_is_left_alone_afterwards() {
        let told = tell(
            "10min",
            &format!(
                "{AUTOSCALER}{}{}{}[[fault]]\nat = \"40s\"\nprovisioning-outage = {{ for = \"30s\" }}\n",
                pool(1, GROWS),
                api("replicas = 2", ""),
                scale("50s", 3)
            ),
        );
        let first = told.times("metal-1", "could not be provided");
        assert_eq!(told.times("metal-1", "ordered"), first);
        // `initial-node-group-backoff-duration` is five minutes.
        let second = told.times("metal-2", "ordered")[0] - first[0];
        assert!((300.0..=310.0).contains(&second), "{second}");
        assert_eq!(told.times("metal-2", "ready").len(), 1);
    }

    #[test]
    fn nodes_that_nobody_needs_go_and_their_instances_move() {
        let quick = "[provisioner]\ncluster-autoscaler = { scale-down-unneeded-time = \"1min\", \
                     scale-down-delay-after-add = \"0s\" }\n";
        let told = tell(
            "5min",
            &format!(
                "{quick}{}{}{}",
                pool(3, "min = 1\nmax = 3"),
                api("replicas = 5", "start = \"2s\", grace = \"1s\""),
                scale("30s", 2)
            ),
        );
        // Two instances fit on one machine: two go, however they were spread.
        assert_eq!(told.curve("metal", "nodes_ready").last(), Some(&1.0));
        assert!(told.metric("service.api.replicas_mean") > 2.0);
        assert_eq!(told.curve("api", "replicas_ready").last(), Some(&2.0));
    }

    #[test]
    fn karpenter_buys_the_cheapest_that_fits() {
        let pools = "[[node-pool]]\nname = \"metal\"\nnodes = 1\nmin = 0\nmax = 4\ncores = 2\nmemory = \"8GiB\"\nprice = \"1/h\"\nboot = \"30s\"\n\
                     [[node-pool]]\nname = \"small\"\nnodes = 1\nmin = 0\nmax = 4\ncores = 1\nmemory = \"8GiB\"\nprice = \"0.3/h\"\nboot = \"30s\"\n";
        let told = tell(
            "3min",
            &format!(
                "[provisioner]\nkarpenter = {{ consolidation-policy = \"never\" }}\n{pools}{}{}",
                api("node-pool = [\"metal\", \"small\"]\nreplicas = 3", ""),
                scale("60s", 4)
            ),
        );
        assert_eq!(told.times("small-1", "ready").len(), 1);
        assert!(told.times("metal-1", "ordered").is_empty());
    }
}

mod images {
    use super::*;

    #[test]
    fn pulls_share_the_registry_and_a_node_pulls_one_after_the_other() {
        let registry = "[registry]\nbandwidth = \"30MiB/s\"\nnode-bandwidth = \"20MiB/s\"\n";
        let told = tell(
            "2min",
            &format!(
                "{registry}{}{}{}",
                pool(2, ""),
                api("replicas = 0", "image = \"300MiB\""),
                scale("10s", 4)
            ),
        );
        // Two nodes at 15 MiB/s each: 20 s. The second instance of each node finds the image there.
        for name in ["api-0", "api-1", "api-2", "api-3"] {
            assert_eq!(told.times(name, "ready"), [30.0]);
        }
        let told = tell(
            "2min",
            &format!(
                "{registry}{}{}{}",
                pool(2, ""),
                api("replicas = 0", "image = \"300MiB\""),
                scale("10s", 1)
            ),
        );
        // One alone gets what its node takes.
        assert_eq!(told.times("api-0", "ready"), [25.0]);
    }

    #[test]
    fn pulls_fail_in_an_outage_and_are_tried_again_less_and_less_often() {
        let outage = "[[fault]]\nat = \"15s\"\nregistry-outage = { for = \"40s\" }\n";
        let registry = "[registry]\nnode-bandwidth = \"20MiB/s\"\n";
        let told = tell(
            "3min",
            &format!(
                "{registry}{}{}{}{outage}",
                pool(1, ""),
                api("replicas = 0", "image = \"200MiB\""),
                scale("10s", 1)
            ),
        );
        // Broken off at 15 s, again at 25 and 45 s, good at 85 s, and ten seconds from the beginning.
        assert_eq!(told.times("api-0", "image pull failed"), [15.0, 25.0, 45.0]);
        assert_eq!(told.times("api-0", "ready"), [95.0]);
        // An image whose time is known waits the same way.
        let told = tell(
            "3min",
            &format!("{}{}{}{outage}", pool(1, ""), api("replicas = 0", "pull = \"10s\""), scale("20s", 1)),
        );
        assert_eq!(told.times("api-0", "image pull failed"), [20.0, 30.0, 50.0]);
        assert_eq!(told.times("api-0", "ready"), [100.0]);
    }
}

mod losses {
    use super::*;

    #[test]
    fn a_reclaimed_machine_is_drained_and_comes_back_where_nobody_orders_new_ones() {
        let told = tell(
            "10min",
            &format!(
                "{}{}[[fault]]\nat = \"60s\"\nspot-reclaim = {{ pool = \"metal\", count = 1, notice = \"2min\", for = \"3min\" }}\n",
                pool(2, "spot = true"),
                api("replicas = 2", "start = \"5s\"")
            ),
        );
        assert_eq!(told.times("metal-0", "reclaimed"), [60.0]);
        assert_eq!(told.times("metal-0", "lost"), [180.0]);
        assert_eq!(told.times("metal-0", "back"), [360.0]);
        // Its instance moved in time: the other machine had room for one more.
        assert_eq!(told.times("api-2", "ready"), [65.0]);
        told.is("availability", 1.0);
    }

    #[test]
    fn a_scaled_pool_replaces_what_was_reclaimed() {
        let told = tell(
            "10min",
            &format!(
                "[provisioner]\ncluster-autoscaler = {{}}\n{}{}\
                 [[fault]]\nat = \"60s\"\nspot-reclaim = {{ pool = \"metal\", notice = \"30s\", for = \"1min\" }}\n",
                pool(2, "spot = true\nmin = 0\nmax = 2\nboot = \"20s\""),
                api("replicas = 4", "")
            ),
        );
        assert_eq!(told.times("metal-0", "taken back"), [90.0]);
        assert!(told.times("metal-0", "back").is_empty());
        assert_eq!(told.times("metal-2", "ready").len(), 1);
        assert_eq!(told.curve("api", "replicas_ready").last(), Some(&4.0));
    }

    #[test]
    fn a_failure_may_take_its_neighbours_along() {
        let run = |share: &str| {
            let told = tell(
                "60s",
                &format!(
                    "{}{}[[fault]]\nat = \"10s\"\nnode-loss = {{ pool = \"metal\", spreads = \"{share}\", for = \"20s\" }}\n",
                    pool(6, "zones = [\"a\", \"b\"]"),
                    api("", "")
                ),
            );
            (0..6).filter(|node| told.times(&format!("metal-{node}"), "lost") == [10.0]).collect::<Vec<_>>()
        };
        assert_eq!(run("0%"), [0]);
        // All of zone a, none of zone b.
        assert_eq!(run("100%"), [0, 2, 4]);
    }

    #[test]
    fn recorded_failures_happen_as_recorded_and_may_overlap() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("failures.csv");
        std::fs::write(&file, "at_s,node,down_s\n100,1,100\n150,1,200\n300,0,10\n").unwrap();
        let told = tell(
            "60s",
            &format!(
                "{}{}[[fault]]\nnode-loss = {{ pool = \"metal\", trace = \"{}\", speed-up = 10 }}\n",
                pool(2, ""),
                api("", ""),
                file.display()
            ),
        );
        assert_eq!((told.times("metal-1", "lost"), told.times("metal-1", "back")), (vec![10.0], vec![35.0]));
        assert_eq!((told.times("metal-0", "lost"), told.times("metal-0", "back")), (vec![30.0], vec![31.0]));
    }

    #[test]
    fn a_drawn_loss_of_a_zone_takes_all_of_it() {
        let fault = "[[fault]]\nmtbf = \"10s\"\nmttr = \"20s\"\nzone-loss = { zone = \"b\" }\n";
        let told = tell("35s", &format!("{}{}{fault}", pool(4, "zones = [\"a\", \"b\"]"), api("", "")));
        for (node, lost) in [("metal-0", 0), ("metal-1", 1), ("metal-2", 0), ("metal-3", 1)] {
            assert_eq!(told.times(node, "lost"), vec![10.0; lost]);
            assert_eq!(told.times(node, "back"), vec![30.0; lost]);
        }
    }

    #[test]
    fn nothing_boots_in_a_zone_that_is_lost() {
        let told = tell(
            "10min",
            &format!(
                "[provisioner]\ncluster-autoscaler = {{}}\n{}{}{}\
                 [[fault]]\nat = \"70s\"\nzone-loss = {{ zone = \"a\", for = \"1min\" }}\n",
                pool(1, "zones = [\"a\"]\nmin = 1\nmax = 2\nboot = \"1min\""),
                api("replicas = 2", ""),
                scale("50s", 3)
            ),
        );
        assert_eq!(told.times("metal-1", "lost before it was ready"), [70.0]);
        assert_eq!(told.times("metal-0", "back"), [130.0]);
    }
}

mod budgets {
    use super::*;

    /// Four instances on three machines with room for two; the first machine has two of them when its owner wants it back.
    fn reclaimed(budget: &str) -> Vec<f64> {
        let fault =
            "[[fault]]\nat = \"10s\"\nspot-reclaim = { pool = \"metal\", count = 1, notice = \"2min\" }\n";
        let text = format!(
            "{}{}{fault}",
            pool(3, "spot = true"),
            api(&format!("replicas = 4\n{budget}"), "start = \"5s\"")
        );
        let told = tell("60s", &text);
        [told.times("api-0", "draining"), told.times("api-3", "draining")].concat()
    }

    #[test]
    fn an_eviction_waits_until_the_budget_allows_it() {
        assert_eq!(reclaimed(""), [10.0, 10.0]);
        assert_eq!(reclaimed("disruption-budget = { max-unavailable = 2 }"), [10.0, 10.0]);
        // The one that replaces the first is ready at 15 s; refused evictions are tried again every ten seconds.
        assert_eq!(reclaimed("disruption-budget = { max-unavailable = 1 }"), [10.0, 20.0]);
        assert_eq!(reclaimed("disruption-budget = { min-available = \"75%\" }"), [10.0, 20.0]);
        assert_eq!(reclaimed("disruption-budget = { min-available = 4 }"), [0.0; 0]);
    }
}
