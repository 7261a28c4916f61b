use strait_datapath::cost::test_run_cost;

use crate::kernel;

#[test]
fn the_cost_of_a_packet_can_be_measured() {
    if !kernel("the_cost_of_a_packet_can_be_measured") {
        return;
    }
    let costs = test_run_cost(10_000, 200).unwrap();
    assert_eq!(costs.len(), 4);
    for cost in costs {
        assert!(cost.established_ns > 0.0 && cost.new_flow_ns > 0.0 && cost.waking_flow_ns > 0.0, "{cost:?}");
        println!("{cost:?}");
    }
}
