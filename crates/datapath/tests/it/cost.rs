use strait_datapath::cost::{Effort, Load, test_run_cost};

use crate::kernel;

#[test]
fn the_cost_of_a_packet_can_be_measured() {
    if !kernel("the_cost_of_a_packet_can_be_measured") {
        return;
    }
    let loads = [Load { peers: 1, connections: 0 }, Load { peers: 20, connections: 50 }];
    let costs = test_run_cost(&loads, Effort { rounds: 2, repeat: 10_000, flows: 100 }).unwrap();
    assert_eq!(costs.len(), 16);
    for cost in costs {
        assert!(cost.established_ns > 0.0, "{cost:?}");
        assert_eq!(cost.new_flow_ns > 0.0 && cost.waking_flow_ns > 0.0, cost.way.opens(), "{cost:?}");
        println!("{cost:?}");
    }
}
