//! VERSION, which needs nobody else.

use serde_json::json;

use super::harness::Node;

#[test]
fn it_echoes_the_version_and_lists_all() {
    let node = Node::without_daemon();
    for (input, echo) in [
        ("{\"cniVersion\": \"1.0.0\"}", "1.0.0"),
        ("{\"cniVersion\": \"0.2.0\"}", "0.2.0"),
        ("", "1.1.0"),
        ("{}", "1.1.0"),
    ] {
        let call = node
            .call("VERSION")
            .without("CNI_CONTAINERID")
            .without("CNI_IFNAME");
        let result = call
            .without("CNI_PATH")
            .without("CNI_NETNS")
            .input(input)
            .run()
            .result();
        let versions = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
        assert_eq!(
            result,
            json!({"cniVersion": echo, "supportedVersions": versions})
        );
    }
    assert_eq!(node.calls(), [""; 0]);
}

#[test]
fn rubbish_is_refused() {
    let node = Node::without_daemon();
    node.call("VERSION")
        .input("{\"cniVersion\"")
        .run()
        .fails(6, "JSON");
}
