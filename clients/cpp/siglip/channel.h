// How a channel is set up: who is called, retries, limits, reconnection.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

namespace siglip {

// gRPC's own bound: a call is sent at most five times.
constexpr int kMaxRetries = 4;
constexpr int kMaxMessageBytes = 32 * 1024 * 1024;

// How a client shows who it is, and knows whom it calls.
struct Access {
  bool tls = false;
  // PEM file of the authority that signed the service's certificate; empty: those of
  // the machine. One that is given implies TLS.
  std::string ca_file;
  // Shown with every call; refused in clear beyond this machine.
  std::string token;
};

// Connects with the first call. `retries`: how often a call that found nobody is sent
// again, 0 to kMaxRetries. Throws std::invalid_argument for what cannot be used.
std::shared_ptr<grpc::Channel> open_channel(const std::string& address, const Access& access, int retries);

}  // namespace siglip
