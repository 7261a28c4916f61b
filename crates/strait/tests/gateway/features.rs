//! The features that are claimed, and the tests that prove each: none more, none less.

use std::{collections::BTreeMap, path::Path, process::Command};

/// FEATURE and where it is proven: `FILE::TEST` under `crates`, several with a comma between.
const PROVEN: &str = "
BackendTLSPolicy strait/tests/gateway/backend_tls.rs::believed_by_name_and_authority,route/tests/it/policies.rs::policies
BackendTLSPolicySANValidation strait/tests/gateway/backend_tls.rs::believed_by_name_and_authority
GRPCRoute strait/tests/gateway/suite.rs::calls
GRPCRouteNamedRouteRule strait/tests/gateway/suite.rs::calls
GRPCRouteRequestHeaderModifier strait/tests/gateway/spec.rs::calls_over_tls
Gateway route/tests/it/gateways.rs::gateways,strait/tests/gateway/suite.rs::modified_listeners
GatewayAddressEmpty route/tests/it/gateways.rs::gateways
GatewayBackendClientCertificate strait/tests/gateway/peers/envoy.rs::client_and_server
GatewayFrontendClientCertificateValidation strait/tests/gateway/suite.rs::client_certificates
GatewayFrontendClientCertificateValidationInsecureFallback strait/tests/gateway/suite.rs::client_certificates
GatewayHTTPListenerIsolation route/tests/it/merging.rs::isolation
GatewayHTTPSListenerDetectMisdirectedRequests strait/tests/gateway/tls.rs::names
GatewayPort8080 strait/tests/gateway/suite.rs::requests
GatewayStaticAddresses route/tests/it/gateways.rs::gateways
HTTPRoute strait/tests/gateway/conformance.rs::every_case
HTTPRoute303RedirectStatusCode strait/tests/gateway/suite.rs::requests
HTTPRoute307RedirectStatusCode strait/tests/gateway/suite.rs::requests
HTTPRoute308RedirectStatusCode strait/tests/gateway/suite.rs::requests
HTTPRouteBackendProtocolH2C strait/tests/gateway/h2.rs::versions
HTTPRouteBackendProtocolWebSocket strait/tests/gateway/peers/websocket.rs::frames
HTTPRouteBackendRequestHeaderModification strait/tests/gateway/suite.rs::requests
HTTPRouteBackendRequestRedirect strait/tests/gateway/spec.rs::filters_of_back_ends
HTTPRouteBackendTimeout strait/tests/gateway/h1.rs::timeouts
HTTPRouteBackendURLRewrite strait/tests/gateway/spec.rs::filters_of_back_ends
HTTPRouteCORS strait/tests/gateway/h1.rs::filters
HTTPRouteDestinationPortMatching strait/tests/gateway/suite.rs::requests
HTTPRouteHostRewrite strait/tests/gateway/h1.rs::filters
HTTPRouteMethodMatching strait/tests/gateway/suite.rs::requests
HTTPRouteNamedRouteRule strait/tests/gateway/suite.rs::requests
HTTPRouteParentRefPort strait/tests/gateway/suite.rs::requests,route/tests/it/routes.rs::accepted
HTTPRoutePathRedirect strait/tests/gateway/suite.rs::requests
HTTPRoutePathRewrite strait/tests/gateway/h1.rs::filters,route/tests/it/rewrites.rs::replaced_prefixes
HTTPRoutePortRedirect strait/tests/gateway/suite.rs::requests
HTTPRouteQueryParamMatching strait/tests/gateway/suite.rs::requests
HTTPRouteRequestMirror strait/tests/gateway/mirror.rs::copies
HTTPRouteRequestMultipleMirrors strait/tests/gateway/suite.rs::mirrors
HTTPRouteRequestPercentageMirror strait/tests/gateway/suite.rs::mirrors
HTTPRouteRequestTimeout strait/tests/gateway/h1.rs::timeouts
HTTPRouteResponseHeaderModification strait/tests/gateway/suite.rs::requests
HTTPRouteRetry strait/tests/gateway/retry.rs::by_code_and_within_timeouts
HTTPRouteRetryBackendTimeout strait/tests/gateway/retry.rs::by_code_and_within_timeouts
HTTPRouteRetryConnectionError strait/tests/gateway/retry.rs::by_connection
HTTPRouteSchemeRedirect strait/tests/gateway/suite.rs::requests
ListenerSet strait/tests/gateway/suite.rs::requests,route/tests/it/listener_sets.rs::listener_sets
ReferenceGrant route/tests/it/routes.rs::resolved,route/tests/it/gateways.rs::listeners
TCPRoute strait/tests/gateway/suite.rs::weighted_connections,route/tests/it/conditions.rs::connections
TLSRoute strait/tests/gateway/spec.rs::tls_routes_of_both_modes
TLSRouteModeMixed strait/tests/gateway/spec.rs::tls_routes_of_both_modes
TLSRouteModeTerminate strait/tests/gateway/spec.rs::tls_routes_of_both_modes
UDPRoute strait/tests/gateway/suite.rs::weighted_clients,route/tests/it/conditions.rs::connections
";

#[test]
fn each_is_proven() {
    let proven: BTreeMap<&str, &str> = PROVEN.lines().filter_map(|line| line.split_once(' ')).collect();
    let folder = tempfile::tempdir().unwrap();
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: strait}\nspec: {controllerName: strait.dev/gateway-controller}\n";
    std::fs::write(folder.path().join("class.yaml"), class).unwrap();
    let mut render = Command::new(env!("CARGO_BIN_EXE_strait"));
    render.args(["status", "render", "-o", "json", "-f"]).arg(folder.path());
    let output = render.output().unwrap();
    let statuses: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let features = statuses[0]["status"]["supportedFeatures"].as_array().unwrap();
    let claimed: Vec<&str> = features.iter().map(|feature| feature["name"].as_str().unwrap()).collect();
    assert_eq!(claimed, proven.keys().copied().collect::<Vec<_>>());
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for place in proven.values().flat_map(|places| places.split(',')) {
        let (file, test) = place.split_once("::").unwrap();
        let written = std::fs::read_to_string(crates.join(file)).unwrap_or_default();
        assert!(written.contains(&format!("#[test]\nfn {test}()")), "there is no test {place}");
    }
}
