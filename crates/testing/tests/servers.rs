//! The throwaway servers end when told, and come back where they were.

use std::net::{Ipv4Addr, TcpStream};

use allocation_testing::servers::{NatsServer, RabbitServer, RedisServer};

fn listens(url: &str) -> bool {
    let (_, port) = url.trim_end_matches("/%2f").trim_end_matches('/').rsplit_once(':').expect("a port");
    TcpStream::connect((Ipv4Addr::LOCALHOST, port.parse().expect("a number"))).is_ok()
}

/// One test a server.
macro_rules! comes_back_where_it_was {
    ($($name:ident: $start:expr;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let mut server = $start.await;
                let url = server.url();
                assert!(listens(&url));
                server.take_away();
                assert!(!listens(&url), "taken away");
                server.bring_back().await;
                assert!(listens(&url), "brought back");
                server.kill();
                assert!(!listens(&url), "killed");
                server.bring_back().await;
                server.forget().await;
                assert!(listens(&url), "forgot");
                drop(server);
                assert!(!listens(&url), "gone");
            }
        )*
    };
}

comes_back_where_it_was! {
    redis_comes_back_where_it_was: RedisServer::start();
    durable_redis_comes_back_where_it_was: RedisServer::durable();
    nats_comes_back_where_it_was: NatsServer::start();
    rabbitmq_comes_back_where_it_was: RabbitServer::start();
}
