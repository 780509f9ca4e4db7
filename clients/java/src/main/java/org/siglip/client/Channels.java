package org.siglip.client;

import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/** How channels are set up: encryption, tokens, retries, limits. */
final class Channels {
  private static final int MAX_MESSAGE_BYTES = 32 << 20;
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final Pattern LOCAL =
      Pattern.compile("(dns:///)?(localhost|127(\\.\\d{1,3}){3}|\\[::1\\])(:\\d+)?|unix:.*");

  private Channels() {}

  static ManagedChannel open(Settings settings) throws IOException {
    ManagedChannelBuilder<?> builder =
        Grpc.newChannelBuilder(settings.address(), credentials(settings))
            .maxInboundMessageSize(MAX_MESSAGE_BYTES)
            .keepAliveTime(60, TimeUnit.SECONDS)
            .keepAliveTimeout(20, TimeUnit.SECONDS)
            .defaultServiceConfig(serviceConfig(settings.retries()))
            .disableServiceConfigLookUp();
    if (settings.retries() == 0) {
      builder.disableRetry();
    } else {
      // Larger requests, which most images are, would silently not be retried.
      builder.enableRetry().perRpcBufferLimit(MAX_MESSAGE_BYTES).retryBufferSize(2L * MAX_MESSAGE_BYTES);
    }
    if (settings.token() != null) {
      builder.intercept(MetadataUtils.newAttachHeadersInterceptor(authorization(settings.token())));
    }
    return builder.build();
  }

  private static ChannelCredentials credentials(Settings settings) throws IOException {
    if (settings.tls()) {
      TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder();
      return settings.caFile() == null
          ? tls.build()
          : tls.trustManager(settings.caFile().toFile()).build();
    }
    if (settings.token() != null && !LOCAL.matcher(settings.address()).matches()) {
      throw new IllegalArgumentException(
          "the token would travel in clear to " + settings.address() + ": use TLS");
    }
    return InsecureChannelCredentials.create();
  }

  private static Metadata authorization(String token) {
    Metadata headers = new Metadata();
    headers.put(AUTHORIZATION, "Bearer " + token);
    return headers;
  }

  /** RESOURCE_EXHAUSTED is not listed on purpose: see Retries. */
  private static Map<String, ?> serviceConfig(int retries) {
    Map<String, ?> balancing = Map.of("loadBalancingConfig", List.of(Map.of("round_robin", Map.of())));
    if (retries == 0) {
      return balancing;
    }
    Map<String, ?> policy =
        Map.of(
            "maxAttempts", retries + 1.0,
            "initialBackoff", "0.2s",
            "maxBackoff", "3s",
            "backoffMultiplier", 2.0,
            "retryableStatusCodes", List.of("UNAVAILABLE"));
    Map<String, ?> every = Map.of("name", List.of(Map.of()), "retryPolicy", policy);
    return Map.of(
        "loadBalancingConfig", balancing.get("loadBalancingConfig"), "methodConfig", List.of(every));
  }
}
