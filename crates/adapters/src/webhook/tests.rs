//! No form of an address leads inside, shown by listeners that count who comes.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What is refused must be refused by the guard, and not for want of TLS.
const PUBLIC_WITHOUT_TLS: Reach = Reach { http: true, may_connect: is_public };
const PATIENCE: Duration = Duration::from_secs(20);

/// Counts connections to any address of this machine, and answers each request the same.
struct Inside {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Inside {
    async fn new(answer: &'static str) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        serve(listener, answer, connections.clone());
        // Some machines have no IPv6, and then nothing can come by it.
        if let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            serve(listener, answer, connections.clone());
        }
        Self { port, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many have come before now: connections are accepted in order.
    async fn settled(&self) -> usize {
        for host in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let Ok(mut probe) = TcpStream::connect((host, self.port)).await else { continue };
            probe.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            probe.read_u8().await.unwrap();
            self.connections.fetch_sub(1, Ordering::SeqCst);
        }
        self.connections()
    }
}

fn serve(listener: TcpListener, answer: &'static str, connections: Arc<AtomicUsize>) {
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
}

/// Reads a request as far as its body.
async fn read_head(stream: &mut TcpStream) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

const OK: &str = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";

/// Answers as it is told, each name the next answer at each question, and the last one for ever.
struct Script {
    answers: Mutex<Vec<(&'static str, Vec<IpAddr>)>>,
    asked: AtomicUsize,
}

impl Script {
    fn new(answers: &[(&'static str, &[&str])]) -> Arc<Self> {
        let parse = |addresses: &[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect();
        let answers = answers.iter().map(|(name, addresses)| (*name, parse(addresses))).collect();
        Arc::new(Self { answers: Mutex::new(answers), asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Lookup for Script {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let name = name.trim_end_matches('.');
        let mut found = answers.iter().enumerate().filter(|(_, (known, _))| *known == name).map(|(at, _)| at);
        let (first, more) = (found.next().ok_or(io::ErrorKind::NotFound)?, found.next().is_some());
        Ok(if more { answers.remove(first).1 } else { answers[first].1.clone() })
    }
}

fn post(url: &str) -> SignedPost {
    SignedPost {
        url: url.into(),
        id: "1".into(),
        timestamp: 0,
        signature: "v1,".into(),
        traceparent: None,
        body: "{}".into(),
    }
}

fn sender(reach: Reach, lookup: Arc<dyn Lookup>) -> HttpWebhooks {
    HttpWebhooks::with_lookup(reach, PATIENCE, &Trust::default(), lookup).unwrap()
}

/// Hosts that are, or lead to, this machine or a network behind it.
const FORMS: &[&str] = &[
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "127.0.0.2",
    "2130706433",
    "0x7f000001",
    "0X7F000001",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "0x7f.0.0.1",
    "0x7f.1",
    "0x7f.0x0.0x0.0x1",
    "127.0x1",
    "0",
    "0.0.0.0",
    "0x0",
    "00.0.0",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:7F00:0001]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::ffff:0.0.0.0]",
    "[::ffff:10.0.0.1]",
    "[::10.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:a00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fe80::5efe:127.0.0.1]",
    "[fe80::1%25lo]",
    "[fe80::1%lo]",
    "[::1%25lo]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "[ff02::1]",
    "10.0.0.1",
    "10.1",
    "167772161",
    "0xa000001",
    "0xa.0.0.1",
    "012.0.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "025177524776",
    "169.254.43518",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.257",
    "3232235521",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "１２７.０.０.１",
    "127。0。0。1",
    "127．0．0．1",
    "127｡0｡0｡1",
    "①②⑦.⓪.⓪.①",
    "%31%32%37%2e0%2e0%2e1",
    "127%2E0%2E0%2E1",
    "127.0.0.1%2e",
    "1%327.1",
    "0x7F%2e1",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "ｌｏｃａｌｈｏｓｔ",
    "loc%61lhost",
    "inside.example",
    "inside.example.",
    "INSIDE.example",
    "ten.example",
    "metadata.example",
    "mapped.example",
    "six.example",
    "mixed.example",
    "mixed-six.example",
];

fn names() -> Arc<Script> {
    Script::new(&[
        ("localhost", &["127.0.0.1", "::1"]),
        ("inside.example", &["127.0.0.1"]),
        ("ten.example", &["10.1.2.3"]),
        ("metadata.example", &["169.254.169.254"]),
        ("mapped.example", &["::ffff:127.0.0.1"]),
        ("six.example", &["::1"]),
        ("mixed.example", &["93.184.216.34", "127.0.0.1"]),
        ("mixed-six.example", &["::1", "2606:2800:220:1::1"]),
    ])
}

#[tokio::test]
async fn no_form_of_an_address_leads_inside() {
    let distinct: HashSet<_> = FORMS.iter().collect();
    assert_eq!(distinct.len(), FORMS.len(), "one is there twice");
    // Some are no URL, and are refused for that by whoever reads them first.
    let read = FORMS.iter().filter(|form| Url::parse(&format!("http://{form}/")).is_ok()).count();
    assert!(read >= 60, "{read} forms");
    let inside = Inside::new(OK).await;
    let guarded = sender(PUBLIC_WITHOUT_TLS, names());
    let strict = sender(Reach::PUBLIC, names());
    for form in FORMS {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{form}:{}/hook", inside.port);
            guarded.send(&post(&url)).await.expect_err(&url);
            strict.send(&post(&url)).await.expect_err(&url);
            assert_eq!(inside.connections(), 0, "{url}");
        }
    }
    assert_eq!(inside.settled().await, 0);
}

/// So that the test before this one could fail.
#[tokio::test]
async fn the_same_forms_lead_inside_when_that_is_allowed() {
    let inside = Inside::new(OK).await;
    let open = sender(Reach::PRIVATE, names());
    let leading = |form: &&&str| {
        let address = form.to_lowercase();
        ["127", "0x7f", "2130706433", "0177", "１２７", "①②⑦", "%31", "1%32", "localhost", "loc%61", "inside"]
            .iter()
            .any(|start| address.starts_with(start))
    };
    let forms: Vec<_> = FORMS.iter().filter(leading).collect();
    assert!(forms.len() >= 30, "{forms:?}");
    for (n, form) in forms.iter().enumerate() {
        let url = format!("http://{form}:{}/hook", inside.port);
        let answer = open.send(&post(&url)).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!((answer.status, inside.connections()), (204, n + 1), "{url}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inside = Inside::new(OK).await;
    let open = sender(Reach::PRIVATE, names());
    for status in [301, 302, 303, 307, 308] {
        for form in FORMS {
            // Lives as long as the test process, of which there is one a test.
            let location = format!("http://{form}:{}/", inside.port);
            let answer = format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            let outside = Inside::new(Box::leak(answer.into_boxed_str())).await;
            let answer = open.send(&post(&format!("http://127.0.0.1:{}/", outside.port))).await.unwrap();
            assert_eq!((answer.status, outside.connections()), (status, 1));
        }
    }
    assert_eq!(inside.settled().await, 0);
}

/// 127.0.0.2 stands for a public address here.
#[tokio::test]
async fn a_name_that_changes_its_address_after_the_check_is_connected_to_as_it_was_checked() {
    const REACH: Reach = Reach { http: true, may_connect: |address| address == Ipv4Addr::new(127, 0, 0, 2) };
    let count = || Arc::new(AtomicUsize::new(0));
    let (outside, inside) = (count(), count());
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    serve(listener, OK, outside.clone());
    serve(TcpListener::bind(("127.0.0.1", port)).await.unwrap(), OK, inside.clone());
    let turning = Script::new(&[("turning.example", &["127.0.0.2"]), ("turning.example", &["127.0.0.1"])]);
    let sender = sender(REACH, turning.clone());
    let url = format!("http://turning.example:{port}/");
    assert_eq!(sender.send(&post(&url)).await.unwrap().status, 204);
    assert_eq!(turning.asked.load(Ordering::SeqCst), 1, "who is asked once can't answer twice");
    sender.send(&post(&url)).await.expect_err("it is inside by now");
    assert_eq!((outside.load(Ordering::SeqCst), inside.load(Ordering::SeqCst)), (1, 0));
}

#[test]
fn a_url_is_admitted_or_told_why_not() {
    for good in [
        "https://example.com",
        "https://example.com:8443/hooks?a=1",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1::1]/",
        "https://münchen.example/",
    ] {
        Reach::PUBLIC.admit(good).expect(good);
    }
    assert_eq!(Reach::PUBLIC.admit("HTTPS://Example.com#part").unwrap().as_str(), "https://example.com/");
    for bad in [
        "",
        "example.com",
        "/hooks",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https://",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://127.0.0.1@example.com/",
        "https://example.com:99999/",
    ] {
        Reach::PUBLIC.admit(bad).expect_err(bad);
    }
    Reach::PUBLIC.admit(&format!("https://example.com/{}", "x".repeat(LONGEST_URL))).expect_err("too long");
    Reach::PRIVATE.admit("http://127.0.0.1:8080/").unwrap();
    Reach::PRIVATE.admit("http://user@127.0.0.1/").expect_err("a user");
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    // 1 MiB is promised and 128 KiB come: only who stops reading has an answer before the patience is over.
    let body = "x".repeat(2 * MOST_READ);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n{body}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            open.push(stream);
        }
    });
    let open = HttpWebhooks::new(Reach::PRIVATE, Duration::from_hours(1), &Trust::default()).unwrap();
    let sent = post(&format!("http://127.0.0.1:{port}/"));
    let answered = tokio::time::timeout(PATIENCE, open.send(&sent)).await.expect("it stops reading");
    assert_eq!(answered.unwrap().status, 200);
}
