//! Notifications sent to push gateways: a follower of the stream per pusher.
