// page_connections.hpp - the connections from a source to the pager of a container at its target.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "node.hpp"

namespace lifeboat {

// Of the key that a link hands on to the page connection it becomes (Link::export_key).
inline constexpr std::string_view kPageKeyLabel = "EXPORTER-lifeboat-pages";

struct OpenedConnections {
  std::vector<PageSocket> shards;  // engine.connections of them
  PageSocket urgent;               // in post-copy: for pages that are waited for
};

// Links to become page connections, all that a migration needs: a source makes them while its target gets ready.
awaitable<Result<std::vector<Link>>> connect_for_pages(const Node& node, PeerAddress to, bool urgent);

// Each of `links` is announced and taken over by the pager, and with security.pages: encrypted a TLS session
// of its own between source and pager, by a key of the link that it was. kNotFound: no container waits for
// pages by this migration there (any more).
awaitable<Result<OpenedConnections>> open_page_connections(const Node& node, std::vector<Link> links,
                                                           std::string migration, bool urgent);

}  // namespace lifeboat
