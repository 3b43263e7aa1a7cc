// page_server.hpp - the page to watch, over TCP: GET only, TLS 1.3 with the node's certificate, a token.
//
// The same page is on the operator's socket (api.hpp), for those who may read there:
//   ssh -L 8080:/run/lifeboat/api.sock NODE        and then http://localhost:8080/
#pragma once

#include "agent.hpp"
#include "base/asio.hpp"
#include "base/result.hpp"

namespace lifeboat {

// Serves until the context stops; nothing when page.listen is not set. The token's file is read again for each
// request. kInvalid: it is no good; kSystem: the address cannot be listened on.
awaitable<Status> serve_page(Agent& agent);

}  // namespace lifeboat
