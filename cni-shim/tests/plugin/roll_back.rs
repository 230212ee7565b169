//! ADD that fails half way leaves nothing behind.

use std::fs;
use std::time::Duration;

use serde_json::json;
use shunt_api::ErrorCode;
use shunt_cni::Patience;

use super::harness::{AT_ONCE, Node, Say};

const HALF: [&str; 3] = ["daemon readiness", "ipam ADD c1", "daemon pod-attach"];

fn with(then: &[&str]) -> Vec<String> {
    let calls = HALF.iter().chain(then);
    calls.map(|call| (*call).to_owned()).collect()
}

#[test]
fn without_a_daemon_it_fails_with_11_within_a_second() {
    let node = Node::without_daemon();
    let answer = node.call("ADD").run();
    answer.fails(11, "cannot reach the daemon");
    assert!(answer.took < AT_ONCE, "{:?}", answer.took);
    assert_eq!(node.calls(), [""; 0], "IPAM was not asked");
    assert_eq!(node.queued(), [""; 0]);
}

#[test]
fn with_a_hung_daemon_it_fails_with_11_within_a_second() {
    let node = Node::new();
    node.daemon().always_says(&Say::Silence);
    let answer = node.call("ADD").run();
    answer.fails(11, "no answer from the daemon");
    assert!(answer.took < AT_ONCE, "{:?}", answer.took);
    assert_eq!(node.calls(), ["daemon readiness"]);
}

#[test]
fn with_a_daemon_that_takes_no_connection_it_fails_with_11_within_a_second() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, listen, socket};
    let node = Node::without_daemon();
    let unix = || socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
    let address = SocketAddrUnix::new(node.socket()).expect("an address");
    let (listener, waiting) = (unix(), unix());
    bind(&listener, &address).expect("bound");
    listen(&listener, 0).expect("listening");
    connect(&waiting, &address).expect("the one that has room");
    let answer = node.call("ADD").run();
    answer.fails(11, "no answer from the daemon");
    assert!(answer.took < AT_ONCE, "{:?}", answer.took);
}

#[test]
fn a_daemon_that_is_starting_is_tried_again_later() {
    let node = Node::new();
    node.daemon().readiness(false, true, "still adopting pods");
    node.call("ADD").run().fails(11, "still adopting pods");
    assert_eq!(node.calls(), ["daemon readiness"]);
}

#[test]
fn what_exists_is_refused_before_ipam() {
    let node = Node::new();
    node.daemon().says(
        "readiness",
        Say::Refuse(ErrorCode::Exists, "pods/c1/eth0 stands"),
    );
    node.call("ADD").run().fails(100, "pods/c1/eth0 stands");
    assert_eq!(node.calls(), ["daemon readiness"]);
}

#[test]
fn an_interface_of_a_plugin_before_us_is_refused_before_ipam() {
    let node = Node::new();
    let interfaces = json!([{"name": "eth0", "sandbox": super::harness::NETNS}]);
    let conf = node.conf_with("prevResult", json!({"interfaces": interfaces}));
    node.call("ADD").conf(&conf).run().fails(100, "eth0");
    assert_eq!(node.calls(), [""; 0]);
}

#[test]
fn a_refusal_gives_the_address_back_and_tells_why() {
    for (class, code) in [
        (ErrorCode::Exhausted, 101),
        (ErrorCode::System, 102),
        (ErrorCode::Invalid, 7),
        (ErrorCode::NotFound, 3),
        (ErrorCode::Exists, 100),
    ] {
        let node = Node::new();
        node.daemon()
            .says("pod-attach", Say::Refuse(class, "12 frames are short"));
        node.call("ADD").run().fails(code, "12 frames are short");
        let mut expected = with(&["ipam DEL c1"]);
        if class == ErrorCode::Exists {
            expected.insert(3, "daemon readiness".to_owned());
        }
        assert_eq!(node.calls(), expected);
        assert_eq!(node.ipam_input("DEL"), node.ipam_input("ADD"));
    }
}

#[test]
fn a_daemon_that_is_lost_is_told_to_detach_before_the_address_goes_back() {
    for say in [
        Say::HangUp,
        Say::Garbage("what?"),
        Say::Garbage("{\"is\":\"ports\",\"of\":[]}"),
    ] {
        let node = Node::new();
        node.daemon().says("pod-attach", say);
        node.call("ADD").run().fails(11, "daemon");
        assert_eq!(node.calls(), with(&["daemon pod-detach c1", "ipam DEL c1"]));
        assert_eq!(node.queued(), [""; 0]);
    }
}

#[test]
fn a_daemon_that_hangs_half_way_finds_the_detachment_in_its_queue() {
    let node = Node::new();
    node.daemon().says("pod-attach", Say::Silence);
    node.daemon().says("pod-detach", Say::Silence);
    let patience = Patience {
        attach: Duration::from_millis(200),
        detach: Duration::from_millis(200),
        ..Patience::default()
    };
    node.call("ADD")
        .serve(&patience)
        .fails(11, "no answer from the daemon");
    assert_eq!(node.calls(), with(&["daemon pod-detach c1", "ipam DEL c1"]));
    assert_eq!(node.queued(), ["c1"]);
}

#[test]
fn with_a_full_disk_as_well_the_error_says_what_is_left() {
    let node = Node::new();
    node.daemon().says("pod-attach", Say::HangUp);
    node.daemon().says("pod-detach", Say::HangUp);
    fs::write(node.path("state"), "no folder").expect("written");
    let error = node.call("ADD").run().fails(11, "cannot be queued");
    assert!(error.to_string().contains("/state/queue"), "{error}");
}

#[test]
fn a_result_that_nobody_hears_is_undone() {
    let node = Node::new();
    let answer = node.call("ADD").run_unheard();
    assert_eq!(answer.code, 1);
    assert_eq!(node.calls(), with(&["daemon pod-detach c1", "ipam DEL c1"]));
}

#[test]
fn an_address_that_belongs_to_the_first_of_two_stays() {
    let node = Node::new();
    let stands = Say::Refuse(ErrorCode::Exists, "pods/c1/eth0 stands");
    node.daemon().says("pod-attach", stands.clone());
    // While IPAM is at work, another attaches the same container.
    let go = node.path("go");
    let lease = super::harness::LEASE;
    let lines = format!(
        "touch {0}.asked; while [ ! -e {0} ]; do sleep 0.01; done\ncat <<'EOF'\n{lease}\nEOF\n",
        go.display()
    );
    node.ipam_does("ADD", &lines);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| node.call("ADD").run());
        while !node.path("go.asked").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        node.daemon().says("readiness", stands);
        fs::write(&go, "").expect("written");
        call.join().expect("no panic").fails(100, "stands");
    });
    assert_eq!(node.calls(), with(&["daemon readiness"]));
}
