// receive.hpp - what arrives at the target on a migration's own connection.
#pragma once

#include <memory>
#include <string>

#include "config.hpp"
#include "criu_glue/pager.hpp"
#include "migration/hold.hpp"
#include "migration/layer_transfer.hpp"
#include "migration/link.hpp"

namespace lifeboat {

struct ReceiveRequest {
  std::string images;           // directory
  std::uint64_t bytes_max = 0;  // of images, and of what the list of pages may stand for
  std::shared_ptr<PagerClient> pager;  // null: all memory comes in the images
  HeldFrames* held = nullptr;          // where frames for the container are kept
  LayerReceiver* layers = nullptr;     // where its writable files go
};

// Receives the images, and with a pager the list of all pages, which it is given to check. Returns
// what ImageEnd said once all of it is there and right.
awaitable<Result<json::object>> receive_images(const Config& config, ReceiveRequest request,
                                               Link& link);

}  // namespace lifeboat
